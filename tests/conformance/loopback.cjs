// Preloaded into the conformance suite: its servers listen on the loopback, not on every interface. A host given to
// listen() would be looked up first, and the suite asks for the port at once: so it is put in below the lookup.
'use strict';
const net = require('net');
const bind = net.Server.prototype._listen2;
net.Server.prototype._listen2 = function (address, port, family, ...rest) {
  if (!address && typeof port === 'number' && port >= 0) {
    return bind.call(this, '127.0.0.1', port, 4, ...rest);
  }
  return bind.call(this, address, port, family, ...rest);
};
