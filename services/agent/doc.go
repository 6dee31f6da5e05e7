// Package agent reads logs where they arise and brings their lines to servers: each
// line once, in order, byte for byte, over crashes of the agent, of the servers and of
// connections.
//
// # How a line gets there
//
//	files ─ follow ─┐                                          ┌► sender ─► server
//	other ─ source ─┴► pipeline ─► collector ─► queue (fsync) ─┤
//	                                              │            └► sender ─► server
//	                                 positions ◄──┘
//
// A job is a scrape configuration: its sources, each with a state of the pipeline of
// its own. Package follow reads growing files, package source all else, package
// discover finds out what there is. Package deliver collects what comes out of the
// pipelines into batches. An entry that has no time of its own gets that of reading,
// made strictly greater than that of the line before. A batch is complete with all
// times, the batch time, and the places behind it of its sources, when it is written to
// the queue and synced. Only then is it sent, and sent again, as it is, until the
// server has taken it; each client does so at its own pace.
//
// After a crash the agent takes the newest positions that the queue has, sends the
// batches whose acknowledgement is not known again, and goes on reading behind the last
// batch in the queue:
//
//   - A line in no batch of the queue was never sent; it is read again.
//   - A line in a batch of the queue is never read again. Sent twice, it is the same
//     entry twice (same stream, timestamp and bytes), which the server stores once.
//   - A line that was read and waits in a pipeline to be joined with others is named by
//     the position; it is read again before all that follows.
//
// So nothing is lost or doubled, whatever has become of the file meanwhile. The clock
// may be set back: times go on from the newest given out, unless that is further ahead
// than the server would take.
//
// Sources that cannot be read again are acknowledged when their lines are on disk
// (pushes, OTLP), or have no acknowledgement at all (syslog, GELF).
//
// # Where it ends
//
// Positions are in the positions file, in the one before it, and at the beginning of
// each segment of the queue. If all are gone, files are read from their start: lines
// come again with new times. If the queue cannot be written (a full disk, or its limit
// is reached), nothing more is read until it can; or, where that is configured, the
// oldest batches are dropped and counted. Without a positions file (weir-agent tail)
// the queue is a temporary one, and what was not acknowledged at the end is gone.
//
// What is bounded: a batch in bytes and age, what is collected while one is written,
// the queue on disk, what each source reads at a time. Nothing waits in memory: a full
// queue fills the collector, and a full collector stops the reading. A refused entry is
// set aside and holds up nothing.
package agent
