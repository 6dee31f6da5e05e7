// Package wal is the write-ahead log of an ingester: a directory of append-only segments whose
// records survive a crash of the process and a cut of the power from the moment an append returns.
//
// # Promises
//
//   - An append that returned nil is on disk (written and fdatasynced), unless
//     Options.SyncInterval trades that away.
//   - Records have log sequence numbers (LSNs) 1, 2, 3…; LSN order is file order is the order in
//     which Begin was called.
//   - Damage costs the records it hits and nothing else. Replay goes on behind it, and its Report
//     names every range that is missing. No damage keeps a log from opening, and no evidence of it
//     is deleted.
//   - A failed write or fsync is final: the log refuses everything from then on with ErrFailed and
//     has to be reopened, which starts a new segment. An fsync is never retried, because after a
//     failure the kernel may call pages clean that never reached the disk.
//   - A full disk is not final: the append fails with ErrDiskFull, the log stays usable.
//
// The bytes are described in docs/format/wal.md.
//
// # Use
//
//	log, err := wal.Open(dir, wal.Options{Logger: logger, Registerer: reg})
//	report, err := log.Replay(ctx, apply)      // what earlier runs left, in bounded memory
//	ticket, err := log.Begin(ctx, 1, payload)  // takes its place in the order
//	err = ticket.Wait(ctx)                     // durable
//	err = log.TruncateBefore(lsn)              // everything below is safe elsewhere
package wal
