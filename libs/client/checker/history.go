package checker

import (
	"fmt"
	"os"
	"slices"
	"sync"
)

// History is what writers sent and what became of it. The zero History is empty and
// kept in memory alone; see OpenHistory. Safe for concurrent use.
type History struct {
	writing sync.RWMutex // held for reading while memory and file differ, which Forget waits for

	mu      sync.Mutex // guards all below but journal
	writers []writerLog
	acks    []ID // in the order in which they were acknowledged, but the first ones
	before  int  // acknowledged before those, and forgotten

	journal journal
}

// writerLog is the entries of one writer, but the oldest, which are forgotten.
type writerLog struct {
	base    uint32 // Seq of the first record
	records []record
}

type record struct {
	entry Entry
	acked int32 // its place among the acknowledged, from 1; 0: it is not
	sent  int16 // times that it was sent, 0: never
	open  int16 // of these, how many ended without a definite outcome, or have not ended
}

// Mark is a moment of a history.
type Mark int

// Sent notes entries that are about to leave, each with a unique ID. An entry may be
// sent any number of times, unchanged.
func (h *History) Sent(entries []Entry) {
	h.writing.RLock()
	defer h.writing.RUnlock()
	h.journal.write(sentLine, entries)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range entries {
		h.sent(e)
	}
}

func (h *History) sent(e Entry) {
	for int(e.Writer) >= len(h.writers) {
		h.writers = append(h.writers, writerLog{})
	}
	w := &h.writers[e.Writer]
	if len(w.records) == 0 && w.base == 0 {
		w.base = e.Seq
	}
	if e.Seq < w.base {
		return // forgotten, and sent again
	}
	for int(e.Seq-w.base) >= len(w.records) {
		w.records = append(w.records, record{})
	}
	r := &w.records[e.Seq-w.base]
	r.entry = e
	r.sent++
	r.open++
}

// Acked notes the end of a sending: the entries are stored.
func (h *History) Acked(entries ...Entry) {
	h.writing.RLock()
	defer h.writing.RUnlock()
	h.journal.write(ackedLine, entries)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range entries {
		h.acked(e.ID)
	}
}

func (h *History) acked(id ID) {
	r := h.find(id)
	if r == nil {
		return
	}
	r.open--
	if r.acked == 0 {
		h.acks = append(h.acks, id)
		r.acked = int32(h.before + len(h.acks))
	}
}

// Refused notes the end of a sending: it stored none of the entries.
func (h *History) Refused(entries ...Entry) {
	h.writing.RLock()
	defer h.writing.RUnlock()
	h.journal.write(refusedLine, entries)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range entries {
		if r := h.find(e.ID); r != nil {
			r.open--
		}
	}
}

// Mark returns the present moment. A read that begins later must show all that was
// acknowledged before it.
func (h *History) Mark() Mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Mark(h.before + len(h.acks))
}

// Numbers are the numbers of the writers' next new entries, at a moment.
type Numbers []uint32

// later says whether an entry was sent for the first time after the moment.
func (n Numbers) later(id ID) bool { return int(id.Writer) >= len(n) || id.Seq >= n[id.Writer] }

// Numbers returns the present ones. A tail that has begun must deliver what is sent for the
// first time from now on. It need not deliver what is acknowledged only now: that may have
// been stored before the tail began, the acknowledgement on its way since.
func (h *History) Numbers() Numbers {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(Numbers, len(h.writers))
	for i := range h.writers {
		out[i] = h.writers[i].base + uint32(len(h.writers[i].records))
	}
	return out
}

// Acknowledged returns the entries that were first sent since a moment, are acknowledged
// and are not forgotten.
func (h *History) Acknowledged(since Numbers) []ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.due(since, 0, Mark(h.before+len(h.acks)))
}

// between is Acknowledged for those that were acknowledged after one moment and not after
// another.
func (h *History) between(since Numbers, from, to Mark) []ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.due(since, from, to)
}

// due is between, with mu held.
func (h *History) due(since Numbers, from, to Mark) (out []ID) {
	lo, hi := max(0, int(from)-h.before), max(0, int(to)-h.before)
	for _, id := range h.acks[lo:max(lo, hi)] {
		if since.later(id) && h.find(id) != nil {
			out = append(out, id)
		}
	}
	return out
}

// Len is how many entries are remembered.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for i := range h.writers {
		n += len(h.writers[i].records)
	}
	return n
}

// Err returns why the history is no longer written to its file, or nil.
func (h *History) Err() error { return h.journal.failed() }

// Forget forgets entries whose time is before the given one, oldest first, as far as no
// later entry of their writer stands in the way. Only ranges of time after it can be
// judged from then on.
func (h *History) Forget(before int64) {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.writers {
		w := &h.writers[i]
		n := 0
		for n < len(w.records) && w.records[n].entry.Time < before {
			n++
		}
		w.base += uint32(n)
		w.records = slices.Delete(w.records, 0, n)
	}
	n := 0
	for n < len(h.acks) && h.find(h.acks[n]) == nil {
		n++
	}
	h.before += n
	h.acks = slices.Delete(h.acks, 0, n)
	h.journal.compact(h)
}

// find returns nil for an entry that was never sent, or is forgotten.
func (h *History) find(id ID) *record {
	if int(id.Writer) >= len(h.writers) {
		return nil
	}
	w := &h.writers[id.Writer]
	if id.Seq < w.base || int(id.Seq-w.base) >= len(w.records) {
		return nil
	}
	if r := &w.records[id.Seq-w.base]; r.sent > 0 {
		return r
	}
	return nil
}

// next returns the number of the next new entry of a writer.
func (h *History) next(writer uint32) uint32 {
	if n := h.Numbers(); int(writer) < len(n) {
		return n[writer]
	}
	return 0
}

// resent says whether an entry was sent more than once, or is forgotten.
func (h *History) resent(id ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.find(id)
	return r == nil || r.sent > 1
}

// counts returns, by stream, how many entries of a range of times must be there, for
// they were acknowledged before mark, and how many may be.
func (h *History) counts(mark Mark, span Span) (least, most map[int]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	least, most = map[int]int{}, map[int]int{}
	for _, r := range h.all() {
		if !span.has(r.entry.Time) {
			continue
		}
		if r.acked > 0 || r.open > 0 {
			most[r.entry.Stream]++
		}
		if r.acked > 0 && int(r.acked) <= int(mark) {
			least[r.entry.Stream]++
		}
	}
	return least, most
}

// all returns what is remembered, by writer and number.
func (h *History) all() func(yield func(int, *record) bool) {
	return func(yield func(int, *record) bool) {
		for i := range h.writers {
			for k := range h.writers[i].records {
				if r := &h.writers[i].records[k]; r.sent > 0 && !yield(i, r) {
					return
				}
			}
		}
	}
}

// OpenHistory returns the history that a file holds, which is made if it is not there,
// and goes on writing to it: what is sent is on disk before Sent returns, and what became
// of it before the methods that note it return. A sending whose end the file does not
// tell has no definite outcome. A last line that was cut short is dropped.
func OpenHistory(path string) (*History, error) {
	h := &History{}
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	whole, err := h.replay(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return h, h.journal.open(path, int64(whole))
}

// Close closes the history's file.
func (h *History) Close() error { return h.journal.close() }
