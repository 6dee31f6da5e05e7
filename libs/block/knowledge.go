package block

import (
	"container/list"
	"sync"

	"github.com/weir-logs/weir/libs/block/lines"
)

// Knowledge is what writers have learnt of lines: by tenant and affinity group, which
// templates there are and which words vary. A writer that has it need not learn it from
// each block anew. What is written reads the same with it and without it; only its bytes
// depend on it. The least recently used goes when there is no room.
//
// A nil *Knowledge knows nothing. Safe for concurrent use; each part is one writer's at
// a time, and others do without it meanwhile.
type Knowledge struct {
	limit int64

	mu     sync.Mutex
	parts  map[knowledgeKey]*list.Element // of knowledgePart
	recent list.List                      // the latest used first
	stats  KnowledgeStats
}

// KnowledgeStats is how much is known and how often that was of use.
type KnowledgeStats struct {
	Parts                   int
	Bytes                   int64
	Hits, Misses, Evictions uint64
}

type knowledgeKey struct{ tenant, group string }

type knowledgePart struct {
	key  knowledgeKey
	what *lines.Learnt
	size int64
}

// NewKnowledge returns an empty one that takes about limit bytes of memory at most.
func NewKnowledge(limit int64) *Knowledge {
	return &Knowledge{limit: limit, parts: map[knowledgeKey]*list.Element{}}
}

// Stats returns how much is known.
func (k *Knowledge) Stats() KnowledgeStats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats
	s.Parts = len(k.parts)
	return s
}

// take returns what is known of a group's lines, which is the caller's from then on; nil
// if there is nothing.
func (k *Knowledge) take(tenant, group string) *lines.Learnt {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.parts[knowledgeKey{tenant, group}]
	if e == nil {
		k.stats.Misses++
		return nil
	}
	k.stats.Hits++
	return k.remove(e).what
}

func (k *Knowledge) remove(e *list.Element) knowledgePart {
	p := k.recent.Remove(e).(knowledgePart)
	delete(k.parts, p.key)
	k.stats.Bytes -= p.size
	return p
}

// give keeps what is known of a group's lines.
func (k *Knowledge) give(tenant, group string, what *lines.Learnt) {
	p := knowledgePart{knowledgeKey{tenant, group}, what, int64(what.MemorySize()+len(tenant)+len(group)) + 256}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.parts[p.key]; e != nil {
		k.remove(e) // another writer's, of the same time
	}
	k.parts[p.key] = k.recent.PushFront(p)
	k.stats.Bytes += p.size
	for k.stats.Bytes > k.limit {
		k.remove(k.recent.Back())
		k.stats.Evictions++
	}
}
