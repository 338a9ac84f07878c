// The official TypeScript SDK with one tool, echo. Argument: a port on loopback, or "stdio".
import { createServer } from 'node:http';
import { localhostHostValidation, localhostOriginValidation, toNodeHandler } from '@modelcontextprotocol/node';
import { McpServer, createMcpHandler } from '@modelcontextprotocol/server';
import { z } from 'zod';

const inputSchema = z.object({ message: z.string() });

function make() {
  const server = new McpServer({ name: 'echo', version: '1' });
  server.registerTool('echo', { description: 'Say it again.', inputSchema }, async ({ message }) => ({
    content: [{ type: 'text', text: message }],
  }));
  return server;
}

if (process.argv[2] === 'stdio') {
  const { serveStdio } = await import('@modelcontextprotocol/server/stdio');
  serveStdio(make);
} else {
  const hostAllowed = localhostHostValidation();
  const originAllowed = localhostOriginValidation();
  const answer = toNodeHandler(createMcpHandler(make, { responseMode: 'json' }));
  const server = createServer((request, response) => {
    if (hostAllowed(request, response) && originAllowed(request, response)) answer(request, response);
  });
  server.keepAliveTimeout = 600_000;
  server.listen(Number(process.argv[2]), '127.0.0.1');
}
