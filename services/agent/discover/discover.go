// Package discover finds targets: what there is to read, with the labels that are
// known of it.
package discover

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Discoverer finds targets.
type Discoverer interface {
	// Run calls update with all targets whenever they have changed, until ctx
	// ends. The callee keeps the maps and changes none.
	Run(ctx context.Context, update func(targets []map[string]string))
}

// group is a group of targets as file_sd has it.
type group struct {
	Targets []string          `json:"targets" yaml:"targets"`
	Labels  map[string]string `json:"labels" yaml:"labels"`
}

// maxFile bounds a file of targets.
const maxFile = 64 << 20

// Files reads targets from files, JSON or YAML, which are looked at again and
// again.
type Files struct {
	patterns []string
	every    time.Duration
	log      *slog.Logger
	good     map[string][]map[string]string // of each file what was read last
	stamps   map[string]string
}

// NewFiles makes a Files. The patterns may have * in their last part. Files are
// read again when they change, within refresh or 5 s.
func NewFiles(patterns []string, refresh time.Duration, log *slog.Logger) *Files {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if refresh <= 0 || refresh > 5*time.Second {
		refresh = 5 * time.Second
	}
	return &Files{patterns: patterns, every: refresh, log: log, good: map[string][]map[string]string{}, stamps: map[string]string{}}
}

// Run implements Discoverer.
func (f *Files) Run(ctx context.Context, update func([]map[string]string)) {
	t := time.NewTicker(f.every)
	defer t.Stop()
	for first := true; ; first = false {
		if changed := f.look(); changed || first {
			var all []map[string]string
			for _, name := range slices.Sorted(maps.Keys(f.good)) {
				all = append(all, f.good[name]...)
			}
			update(all)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (f *Files) look() (changed bool) {
	there := map[string]bool{}
	for _, p := range f.patterns {
		names, _ := filepath.Glob(p)
		for _, n := range names {
			there[n] = true
			st, err := os.Stat(n)
			if err != nil {
				continue
			}
			stamp := fmt.Sprint(st.Size(), st.ModTime().UnixNano())
			if f.stamps[n] == stamp {
				continue
			}
			f.stamps[n] = stamp
			targets, err := readTargets(n, st.Size())
			if err != nil {
				// What was read before stays: a file may be half written.
				f.log.Error("cannot read targets", "file", n, "err", err)
				continue
			}
			f.good[n] = targets
			changed = true
		}
	}
	for n := range f.stamps {
		if !there[n] {
			delete(f.good, n)
			delete(f.stamps, n)
			changed = true
		}
	}
	return changed
}

func readTargets(name string, size int64) ([]map[string]string, error) {
	if size > maxFile {
		return nil, fmt.Errorf("%d bytes are too much", size)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return ParseTargets(name, data)
}

// ParseTargets reads the text of a file of targets; its kind is told by the name.
func ParseTargets(name string, data []byte) ([]map[string]string, error) {
	var groups []group
	var err error
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json":
		err = json.Unmarshal(data, &groups)
	case ".yml", ".yaml":
		err = yaml.Unmarshal(data, &groups)
	default:
		err = fmt.Errorf("%s is neither .json nor .yml nor .yaml", name)
	}
	if err != nil {
		return nil, err
	}
	var out []map[string]string
	for _, g := range groups {
		targets := g.Targets
		if len(targets) == 0 {
			targets = []string{""}
		}
		for _, t := range targets {
			m := maps.Clone(g.Labels)
			if m == nil {
				m = map[string]string{}
			}
			if t != "" {
				m["__address__"] = t
			}
			m["__meta_filepath"] = name
			out = append(out, m)
		}
	}
	return out, nil
}
