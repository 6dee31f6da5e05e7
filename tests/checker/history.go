package checker

import (
	"slices"
	"sync"
)

// History is what writers sent and what became of it. Safe for concurrent use.
type History struct {
	mu      sync.Mutex
	writers [][]record
	acks    []ID // in the order in which they were acknowledged
}

type record struct {
	entry Entry
	acked bool
	sent  int // times that it was sent
	open  int // of these, how many ended without a definite outcome, or have not ended
}

// Mark is a moment of a history.
type Mark int

// Sent notes entries that are about to leave, each with a unique ID. An entry may be
// sent any number of times, unchanged.
func (h *History) Sent(entries []Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range entries {
		for int(e.Writer) >= len(h.writers) {
			h.writers = append(h.writers, nil)
		}
		w := h.writers[e.Writer]
		for int(e.Seq) >= len(w) {
			w = append(w, record{})
		}
		h.writers[e.Writer] = w
		r := &w[e.Seq]
		r.entry = e
		r.sent++
		r.open++
	}
}

// Acked notes the end of a sending: the entry is stored.
func (h *History) Acked(e Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.find(e.ID)
	r.open--
	if !r.acked {
		r.acked = true
		h.acks = append(h.acks, e.ID)
	}
}

// Refused notes the end of a sending: it stored nothing.
func (h *History) Refused(e Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.find(e.ID).open--
}

// Mark returns the present moment. A read that begins later must show all that was
// acknowledged before it.
func (h *History) Mark() Mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Mark(len(h.acks))
}

// Acknowledged returns the entries that were acknowledged since a moment.
func (h *History) Acknowledged(since Mark) []ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.acks[since:])
}

// find returns nil for an entry that was never sent.
func (h *History) find(id ID) *record {
	if int(id.Writer) >= len(h.writers) || int(id.Seq) >= len(h.writers[id.Writer]) {
		return nil
	}
	if r := &h.writers[id.Writer][id.Seq]; r.sent > 0 {
		return r
	}
	return nil
}
