package weir

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/weir-logs/weir/libs/conf"
)

// MemoryConfig is the process' budget of memory.
type MemoryConfig struct {
	Limit conf.ByteSize `help:"Memory that the process may use. 0: the limit of its control group, else a quarter of the machine's memory, at least 512MiB and at most 1GiB."`
}

// minDecode is what the largest request needs to be decoded, and minMemory the
// smallest budget in which that, the head, one query, parts of blocks and those who
// write blocks have their shares.
const (
	minDecode = 128 << 20
	minMemory = 512 << 20
)

// Validate returns what is wrong.
func (c MemoryConfig) Validate() error {
	if c.Limit != 0 && c.Limit < minMemory {
		return fmt.Errorf("limit is %s, less than one largest request and one query need (%s)", c.Limit, conf.ByteSize(minMemory))
	}
	return nil
}

// budget divides the memory of a process.
type budget struct {
	total   int64
	head    int64 // rows in memory, and replay
	decode  int64 // push requests on their way
	queries int64
	cache   int64 // parts of blocks
	results int64 // parts of answers
	tails   int64 // what live tails remember
}

// budget fails where there is too little for any request to succeed: better not to
// start than to be killed later.
func (c MemoryConfig) budget() (budget, error) {
	total := int64(c.Limit)
	if total == 0 {
		total = detectMemory()
	}
	if total < minMemory {
		return budget{}, fmt.Errorf("there are %s of memory for this process, less than one largest request and one query need (%s)", conf.ByteSize(total), conf.ByteSize(minMemory))
	}
	return budget{
		total: total, head: total * 20 / 100, decode: max(minDecode, total*20/100),
		queries: total * 22 / 100, cache: total * 16 / 100, results: total * 2 / 100, tails: total * 3 / 100,
	}, nil
}

func detectMemory() int64 {
	system, err := memlimit.FromSystem()
	if err != nil || system == 0 {
		system = 4 << 30
	}
	group, err := memlimit.FromCgroup()
	if err != nil {
		group = 0
	}
	return defaultMemory(system, group)
}

// defaultMemory returns the control group's limit, if it has one (not 0), else a
// quarter of the machine's memory, at most 1 GiB. On a small machine it is more than
// a quarter, so that Weir starts without being configured.
func defaultMemory(system, group uint64) int64 {
	if group > 0 && group < system {
		return int64(min(group, math.MaxInt64))
	}
	return int64(min(max(system/4, minMemory), system, 1<<30))
}

// Between collections memory may double as long as all takes less than gcShare of the
// budget. What a process holds beyond that is mostly slabs without pointers, which cost a
// collection nothing; so then it pays to collect often, each time that a quarter was added.
const (
	gcShare   = 43 // percent
	gcPercent = 100
	gcEvery   = time.Second
)

// gcLimit is how much memory may be taken before it is collected when live bytes are held.
func (b budget) gcLimit(live uint64) int64 {
	held := int64(min(live, math.MaxInt64/2))
	return min(max(b.total/100*gcShare, held+held/4), b.total/10*9)
}

// govern tells the garbage collector to stay within the budget, until ctx is done.
func (b budget) govern(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		debug.SetMemoryLimit(b.total / 10 * 9)
		return
	}
	debug.SetGCPercent(gcPercent)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	timer := time.NewTicker(gcEvery)
	defer timer.Stop()
	limit := b.gcLimit(0)
	debug.SetMemoryLimit(limit)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		metrics.Read(live)
		if l := b.gcLimit(live[0].Value.Uint64()); l != limit {
			limit = l
			debug.SetMemoryLimit(limit)
		}
	}
}
