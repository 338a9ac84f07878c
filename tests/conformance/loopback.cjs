// Preloaded into the conformance suite: its servers listen on the loopback, not on every interface.
'use strict';
const net = require('net');
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const [first, second] = args;
  if (first !== null && typeof first === 'object') {
    if (first.path === undefined && first.fd === undefined && first.handle === undefined && first.host === undefined) {
      args[0] = { ...first, host: '127.0.0.1' };
    }
  } else if (typeof first === 'number' || first === undefined || /^\d+$/.test(first)) {
    if (typeof second !== 'string') {
      args.splice(0, first === undefined || typeof first === 'function' ? 0 : 1, Number(first || 0), '127.0.0.1');
    }
  }
  return listen.apply(this, args);
};
