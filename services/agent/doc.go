// Package agent follows log files and pushes their lines to a Weir server: each
// line once, in order, byte for byte, over crashes of the agent, of the server
// and of the connection.
//
// # How a line gets there
//
//	files ─ follow ─► batcher ─► journal (fsync) ─► sender ─► server
//	                                                  │ ack
//	                          positions ◄─────────────┘
//
// Package follow reads lines. The batcher gives each its time, which is the time
// of reading made strictly greater than that of the line before, and collects a
// batch. A full or old enough batch is sealed: the request, with all timestamps
// and the batch time, and the positions behind it are written to the journal and
// synced. Only then is it sent, and sent again, as it is, until the server has
// taken it. Batches are sent one after another, so the order of a stream is that
// of its file. When the server has acknowledged a batch, the positions behind it
// become the agent's positions, which are saved from time to time.
//
// After a crash the agent loads the saved positions, adds what the journal has
// behind them, sends the batches whose acknowledgement is not known again, and
// goes on reading behind the last batch in the journal:
//
//   - A line in no batch of the journal was never sent; it is read again.
//   - A line in a batch of the journal is never read again. Sent twice, it is the
//     same entry twice (same stream, timestamp and bytes), which the server
//     stores once.
//
// So nothing is lost or doubled, whatever has become of the file meanwhile. The
// clock may be set back: times go on from the newest given out, unless that is
// further ahead than the server would take.
//
// # Where it ends
//
// If the positions file is damaged, the one before it is used, and the journal is
// kept back to that one, so that still nothing is doubled. If both are gone,
// files are read from their start: lines come again with new times. If the
// journal cannot be written (a full disk), nothing is sent and nothing more is
// read until it can. Without a positions file (weir-agent tail) there is no
// journal either, and what was not acknowledged at the end is gone.
//
// What is bounded: a batch in bytes and age, the batches that are sealed and not
// acknowledged in number; when that is reached, reading stops. A refused entry is
// counted and reported by reason and holds up nothing.
package agent
