package client

var IsLocal = isLocal
