package shopgen

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultIncidentEvery = 15 * time.Minute
	DefaultIncidentFor   = 2 * time.Minute
)

// MaxRate is the highest Config.Rate. It bounds the records in the making.
const MaxRate = 1e6

// Config says which logs to write. Equal configs yield equal records.
type Config struct {
	// Seed selects one of the possible histories.
	Seed uint64
	// Start is the virtual time at which the shop opens.
	Start time.Time
	// Rate is the mean number of records a second, over the chosen services:
	// more than 0, at most MaxRate.
	Rate float64
	// Services are the services whose records are wanted; empty: all. See
	// Services for the names.
	Services []string
	// IncidentEvery is the time from the start of an incident to the start of
	// the next; the first one begins a third of it after Start. 0: the default;
	// negative: there are no incidents.
	IncidentEvery time.Duration
	// IncidentFor is how long an incident lasts, recovery included: less than
	// IncidentEvery. 0: the default, or half of a shorter IncidentEvery.
	IncidentFor time.Duration
}

// Stream is one log of the shop: a service on a host.
type Stream struct {
	// Service is the service's name, such as "payments".
	Service string
	// Host is the machine it runs on, such as "app-1".
	Host string
}

// Labels returns the label set that names the stream. The caller owns it.
func (s Stream) Labels() map[string]string {
	return map[string]string{"app": s.Service, "env": "prod", "host": s.Host}
}

// FileName returns the name of the file that the log would be in.
func (s Stream) FileName() string { return s.Service + "-" + s.Host + ".log" }

// Record is one log entry.
type Record struct {
	// Time is when it was logged, in nanoseconds since the Unix epoch.
	Time int64
	// Stream indexes Generator.Streams.
	Stream int
	// Line is the text without a line terminator. A stack trace is one record
	// with newlines in it. Valid until the next call of Next.
	Line []byte
}

type service uint8

const (
	gateway service = iota
	catalog
	checkout
	payments
	inventory
	syslog
	numServices
)

// profiles says where each service runs, and how many records it writes for
// each request that reaches the shop while all is well.
var profiles = [numServices]struct {
	name       string
	hosts      []string
	perRequest float64
}{
	gateway:   {"gateway", []string{"web-1", "web-2"}, 1},
	catalog:   {"catalog", []string{"app-1", "app-2", "app-3"}, 0.832},
	checkout:  {"checkout", []string{"app-1", "app-2"}, 0.27},
	payments:  {"payments", []string{"app-2", "app-3"}, 0.16},
	inventory: {"inventory", []string{"app-1", "app-3"}, 0.23},
	syslog:    {"syslog", []string{"db-1", "web-1"}, syslogPerRequest},
}

const syslogPerRequest = 0.2

// Services lists the names of the services.
func Services() []string {
	names := make([]string, 0, numServices)
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return names
}

// Generator makes the records of one Config. It is not safe for concurrent use.
type Generator struct {
	rng     *rand.Rand
	streams []Stream
	// first is the index of a service's first stream; -1: not wanted.
	first [numServices]int

	start       int64
	incident    incident
	requestGap  float64 // mean nanoseconds between requests
	syslogGap   float64
	nextRequest int64
	nextSyslog  int64
	nextOutage  int64

	orders uint64
	clocks clocks

	pending []pendingRecord // a heap by time, then by making
	made    uint64
	buffers [][]byte
	free    []int32
	lent    int32 // the buffer that the last record is in; -1: none
}

type pendingRecord struct {
	at     int64
	seq    uint64
	buffer int32
	stream int32
}

// New returns a generator, or an error that lists all that is wrong with cfg.
func New(cfg Config) (*Generator, error) {
	var errs []error
	if !(cfg.Rate > 0 && cfg.Rate <= MaxRate) {
		errs = append(errs, fmt.Errorf("a rate of %v records a second: it must be more than 0 and at most %d", cfg.Rate, int(MaxRate)))
	}
	known := Services()
	for _, name := range cfg.Services {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("unknown service %q: there are %s", name, strings.Join(known, ", ")))
		}
	}
	inc, err := newIncident(cfg)
	if err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}

	g := &Generator{
		rng:      rand.New(rand.NewPCG(cfg.Seed, 0x5745495273686f70)),
		start:    cfg.Start.UnixNano(),
		incident: inc,
		lent:     -1,
		clocks:   newClocks(),
	}
	g.orders = 100000 + g.rng.Uint64N(800000)
	perRequest := 0.0
	for s := range numServices {
		g.first[s] = -1
		p := profiles[s]
		if len(cfg.Services) > 0 && !slices.Contains(cfg.Services, p.name) {
			continue
		}
		perRequest += p.perRequest
		g.first[s] = len(g.streams)
		for _, h := range p.hosts {
			g.streams = append(g.streams, Stream{Service: p.name, Host: h})
		}
	}
	g.requestGap = 1e9 * perRequest / cfg.Rate
	g.syslogGap = g.requestGap / syslogPerRequest
	g.nextRequest = g.start + g.exponential(g.requestGap)
	g.nextSyslog = g.start + g.exponential(g.syslogGap)
	g.nextOutage = g.incident.begin(0)
	return g, nil
}

// Streams lists the logs that records belong to. Callers must not change it.
func (g *Generator) Streams() []Stream { return g.streams }

// Next returns the next record. Times never decrease, and there is always a
// next record.
func (g *Generator) Next() Record {
	if g.lent >= 0 {
		g.free = append(g.free, g.lent)
	}
	// What is still to happen logs nothing before it happens.
	for len(g.pending) == 0 || g.pending[0].at > min(g.nextRequest, g.nextSyslog, g.nextOutage) {
		g.advance()
	}
	p := g.pop()
	g.lent = p.buffer
	return Record{Time: p.at, Stream: int(p.stream), Line: g.buffers[p.buffer]}
}

// advance lets the next thing happen.
func (g *Generator) advance() {
	switch min(g.nextRequest, g.nextSyslog, g.nextOutage) {
	case g.nextOutage:
		g.outage(g.nextOutage)
		g.nextOutage = g.incident.begin(g.nextOutage - g.start + 1)
	case g.nextRequest:
		g.request(g.nextRequest)
		g.nextRequest += g.exponential(g.requestGap)
	default:
		g.systemEvent(g.nextSyslog)
		g.nextSyslog += g.exponential(g.syslogGap)
	}
}

// begin returns an empty buffer for a line, and its number for end.
func (g *Generator) begin() ([]byte, int32) {
	if n := len(g.free); n > 0 {
		i := g.free[n-1]
		g.free = g.free[:n-1]
		return g.buffers[i][:0], i
	}
	g.buffers = append(g.buffers, make([]byte, 0, 320))
	return g.buffers[len(g.buffers)-1], int32(len(g.buffers) - 1)
}

// end files a finished line under its time.
func (g *Generator) end(line []byte, buffer int32, at int64, stream int) {
	g.buffers[buffer] = line
	g.made++
	g.pending = append(g.pending, pendingRecord{at: at, seq: g.made, buffer: buffer, stream: int32(stream)})
	i := len(g.pending) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !g.pending[i].before(g.pending[up]) {
			break
		}
		g.pending[i], g.pending[up] = g.pending[up], g.pending[i]
		i = up
	}
}

func (g *Generator) pop() pendingRecord {
	top := g.pending[0]
	n := len(g.pending) - 1
	g.pending[0] = g.pending[n]
	g.pending = g.pending[:n]
	i := 0
	for {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && g.pending[c+1].before(g.pending[c]) {
			c++
		}
		if !g.pending[c].before(g.pending[i]) {
			break
		}
		g.pending[i], g.pending[c] = g.pending[c], g.pending[i]
		i = c
	}
	return top
}

func (p pendingRecord) before(q pendingRecord) bool {
	return p.at < q.at || p.at == q.at && p.seq < q.seq
}

// wants reports whether records of s are wanted.
func (g *Generator) wants(s service) bool { return g.first[s] >= 0 }

// host picks one of the streams of s, which must be wanted.
func (g *Generator) host(s service) int {
	return g.first[s] + g.rng.IntN(len(profiles[s].hosts))
}

// exponential draws a gap between independent events.
func (g *Generator) exponential(mean float64) int64 {
	return int64(g.rng.ExpFloat64()*mean) + 1
}

// latency draws a log-normal duration: most are near the median, a few far
// above it.
func (g *Generator) latency(median time.Duration, spread float64) int64 {
	return int64(float64(median) * math.Exp(spread*g.rng.NormFloat64()))
}

func (g *Generator) chance(p float64) bool { return g.rng.Float64() < p }

// incident is when the payments database is down.
type incident struct {
	start, every, lasts int64 // every 0: never
}

func newIncident(cfg Config) (incident, error) {
	every, lasts := cfg.IncidentEvery, cfg.IncidentFor
	if every == 0 {
		every = DefaultIncidentEvery
	}
	if every < 0 {
		return incident{}, nil
	}
	if lasts == 0 {
		lasts = min(DefaultIncidentFor, every/2)
	}
	if lasts < 0 || lasts >= every {
		return incident{}, fmt.Errorf("an incident of %v does not fit into one every %v", lasts, every)
	}
	return incident{start: cfg.Start.UnixNano(), every: int64(every), lasts: int64(lasts)}, nil
}

// begin returns when the first incident starts that starts no earlier than
// offset after the shop opened.
func (i incident) begin(offset int64) int64 {
	if i.every == 0 {
		return math.MaxInt64
	}
	n := max(0, (offset-i.every/3+i.every-1)/i.every)
	return i.start + i.every/3 + n*i.every
}

// severity is how bad things are at a time: 0 well, 1 down. It rises within the
// first tenth of an incident and falls during its last third.
func (i incident) severity(at int64) float64 {
	if i.every == 0 {
		return 0
	}
	t := at - i.start - i.every/3
	if t < 0 {
		return 0
	}
	x := float64(t%i.every) / float64(i.lasts)
	switch {
	case x >= 1:
		return 0
	case x < 0.1:
		return x / 0.1
	case x > 2.0/3:
		return (1 - x) * 3
	}
	return 1
}
