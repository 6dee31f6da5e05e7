// Package shopgen writes the logs of a small shop that does not exist: an
// access log, three services in JSON and logfmt, a Java service with stack
// traces and a chatty syslog, all telling the same story.
//
// A customer's request runs through the shop: the gateway's line carries the
// trace id that the catalog, checkout, inventory and payments services log as
// well, latencies add up, and orders are reserved, charged and placed. Every
// so often the payments database is killed; charges then become slow and fail,
// the gateway answers 502 and 504, the Java service throws, and a minute or two
// later all of it recovers.
//
// The generator is a pure function of its Config: it reads no clock and does no
// I/O. Time in it is virtual, starts at Config.Start and moves as records are
// taken; whoever wants them live waits until a record's time has come.
package shopgen
