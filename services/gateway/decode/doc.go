// Package decode turns push requests, as they came over the wire, into the columns
// that the services behind the gateway speak: straight from the bytes, once,
// without an allocation per line. There is a decoder for each door: Weir's own
// protobuf message, Loki's protobuf message and Loki's two JSON forms.
//
// Nothing is trusted. Sizes are checked before anything is decompressed or
// allocated; what a request takes in memory is counted while it is decoded, since a
// few bytes on the wire can name a stream or a column that takes hundreds here.
// Errors are [rpcerr.Error]s: InvalidArgument or ParseError for a request that can
// never succeed, TooLarge, and Overloaded where other requests hold the memory.
//
// Decoders do not validate what the distributor does: label sets, ages, lengths.
package decode
