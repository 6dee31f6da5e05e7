package wal

import "fmt"

// Reason says what is wrong with a damaged range. The set is closed, so it can label a metric.
type Reason string

const (
	ReasonTorn       Reason = "torn"         // the last append was cut short; nothing acknowledged is missing
	ReasonChecksum   Reason = "checksum"     // a payload does not match its checksum
	ReasonHeader     Reason = "header"       // bytes where an intact record header should be
	ReasonSegment    Reason = "segment"      // the segment's header is damaged; its records may be intact
	ReasonZeros      Reason = "zeros"        // NUL bytes where records should be
	ReasonTruncated  Reason = "truncated"    // the segment ends too early
	ReasonUnreadable Reason = "unreadable"   // the disk returned an error
	ReasonMissing    Reason = "missing"      // records, or the segment that held them, are not there at all
	ReasonOrder      Reason = "out_of_order" // an intact record with an LSN that cannot stand there; not delivered
	ReasonState      Reason = "state"        // the state file is lost, so a lost oldest or newest segment goes unnoticed
)

// Damage is a range of the log that Replay could not deliver.
type Damage struct {
	Segment string // file name within the directory; empty where no file belongs to the range
	Offset  int64  // in the segment
	Bytes   int64  // 0 where nothing is there to be read

	// Every missing record has an LSN in [FirstLSN, LastLSN]. Where the damage hides how many there
	// were, the range is the largest possible. Both are 0 if no record is missing.
	FirstLSN, LastLSN uint64

	Reason Reason
	Detail string
}

// String returns one line for a log or a status page.
func (d Damage) String() string {
	s := fmt.Sprintf("%s: segment %s offset %d, %d bytes", d.Reason, d.Segment, d.Offset, d.Bytes)
	if d.FirstLSN != 0 {
		s += fmt.Sprintf(", records %d to %d", d.FirstLSN, d.LastLSN)
	}
	if d.Detail != "" {
		s += ": " + d.Detail
	}
	return s
}

// Report is what a replay found.
type Report struct {
	Segments          int    // segments that are there
	Records           uint64 // records delivered
	Bytes             uint64 // their payloads
	FirstLSN, LastLSN uint64 // of the records delivered; 0 if there were none

	// Torn lists appends that a crash cut short. None of them had been acknowledged.
	Torn []Damage
	// Damage lists everything else, in LSN order. It is bounded: beyond maxDamages ranges the last
	// one grows to cover what follows, intact records between included.
	Damage []Damage
}

// Complete reports whether no record is missing.
func (r *Report) Complete() bool {
	for _, d := range r.Damage {
		if d.FirstLSN != 0 {
			return false
		}
	}
	return true
}

const maxDamages = 4096

func (r *Report) add(d Damage) {
	if n := len(r.Damage); n > 0 {
		last := &r.Damage[n-1]
		adjacent := last.Segment == d.Segment && last.Reason == d.Reason && last.Offset+last.Bytes == d.Offset &&
			last.FirstLSN != 0 && last.LastLSN+1 == d.FirstLSN
		if adjacent && d.Reason != ReasonOrder {
			last.Bytes += d.Bytes
			last.LastLSN = d.LastLSN
			return
		}
		if n >= maxDamages {
			if last.Segment == d.Segment {
				last.Bytes = d.Offset + d.Bytes - last.Offset
			}
			if d.FirstLSN != 0 {
				if last.FirstLSN == 0 {
					last.FirstLSN = d.FirstLSN
				}
				last.LastLSN = d.LastLSN
			}
			last.Detail = "more damage follows; the range covers all of it"
			return
		}
	}
	r.Damage = append(r.Damage, d)
}
