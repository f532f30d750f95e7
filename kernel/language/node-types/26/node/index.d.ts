/// <reference types="types-node-26" />
