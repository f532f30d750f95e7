/// <reference types="types-node-22" />
