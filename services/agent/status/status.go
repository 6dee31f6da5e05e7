// Package status is what a running agent says about itself, as JSON at Path: the
// agent serves it, weir-agent status shows it.
package status

import "time"

// Path is where the agent's HTTP listener serves Status.
const Path = "/api/v1/targets"

// Status is an agent at one moment.
type Status struct {
	// Time is the agent's clock.
	Time time.Time `json:"time"`
	// Started is when the agent was started.
	Started time.Time `json:"started"`
	Version string    `json:"version"`
	// Ready is what /ready says; Trouble why not, or what hinders delivery.
	Ready   bool     `json:"ready"`
	Trouble string   `json:"trouble,omitempty"`
	Targets []Target `json:"targets"`
	Clients []Client `json:"clients"`
}

// Target is one source of lines: a file, a container, a listener.
type Target struct {
	// Job is the scrape configuration's name.
	Job string `json:"job"`
	// Kind is file, docker, journal, syslog, push, otlp, gelf or stdin.
	Kind string `json:"kind"`
	// Name is the path, the container's name, the address.
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	// State is reading, idle, waiting (for room in the queue), ended or failed.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// Lines and Bytes were read since the start, BytesPerSecond lately.
	Lines          uint64  `json:"lines"`
	Bytes          uint64  `json:"bytes"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	LinesPerSecond float64 `json:"lines_per_second"`
	// Size, Read and Acked are offsets of files: where it ends, how far it is
	// read, and up to where every client's server has it. -1: has none.
	Size  int64 `json:"size"`
	Read  int64 `json:"read"`
	Acked int64 `json:"acked"`
	// LagBytes are not yet acknowledged; LagSeconds is how old the oldest of them
	// is.
	LagBytes   int64   `json:"lag_bytes"`
	LagSeconds float64 `json:"lag_seconds"`
}

// Client is one server that gets the lines.
type Client struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// State is ok, retrying or full.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// QueueBytes and QueueEntries wait in the queue, whose limit is QueueLimit.
	QueueBytes   int64  `json:"queue_bytes"`
	QueueEntries int64  `json:"queue_entries"`
	QueueLimit   int64  `json:"queue_limit"`
	Sent         uint64 `json:"sent_entries"`
	Refused      uint64 `json:"refused_entries"`
	Dropped      uint64 `json:"dropped_entries"`
	// OldestSeconds is how long the oldest batch has waited.
	OldestSeconds float64 `json:"oldest_seconds"`
}
