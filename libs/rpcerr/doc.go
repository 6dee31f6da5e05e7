// Package rpcerr is the one place where domain errors meet gRPC codes and HTTP statuses.
//
// A failure has a [Reason], an identifier in capitals that is part of the API and crosses the
// wire as google.rpc.ErrorInfo (domain "weir"), so that no caller ever matches texts. Every
// reason has one gRPC code and one HTTP status, in one table that is read in both directions:
//
//	domain error ── Table.ToStatus ──▶ status + ErrorInfo + RetryInfo ──▶ wire
//	domain error ◀─ Table.FromStatus ─ status + ErrorInfo + RetryInfo ◀── wire
//
// Domain packages return their own sentinels; a service lists them in a [Table] and passes it to
// the interceptors. Code at a border may build an [Error] directly with [New] or [Wrap].
//
// An error that nobody mapped becomes Internal "internal error": its text goes to the log, never
// to the caller. Cancellation and deadlines of contexts are mapped here, once.
package rpcerr
