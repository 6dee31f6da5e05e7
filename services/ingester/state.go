package ingester

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
)

// named is how long the answers to queries name a block that was uploaded.
const named = 24 * time.Hour

// state is what the local containers, which never change, cannot tell. Losing it costs
// uploads that are done again, and the memory of what was lost.
type state struct {
	// Gaps are ranges of the write-ahead log that were found damaged: the log forgets
	// them when it is truncated.
	Gaps    []string       `json:"gaps,omitempty"`
	Uploads []upload       `json:"uploads,omitempty"`
	Damaged []damagedBlock `json:"damaged,omitempty"`
}

// upload is a block in the object store.
type upload struct {
	Key     string       `json:"key"`
	Tenant  string       `json:"tenant"`
	MinTime int64        `json:"min_time"`
	MaxTime int64        `json:"max_time"`
	At      time.Time    `json:"at"`
	Of      []catalog.ID `json:"of"` // the local blocks whose rows it holds
}

type damagedBlock struct {
	ID   catalog.ID `json:"id"`
	What string     `json:"what"`
}

func (s *Service) statePath() string { return filepath.Join(s.blocksDir(), "state.json") }

func (s *Service) loadState() state {
	var st state
	b, err := os.ReadFile(s.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return st
	}
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		s.logger.Warn("the record of uploads cannot be read: what was uploaded is uploaded again", "err", err)
		return state{}
	}
	return st
}

// changeState changes the state if change returns true. It is in force at once; an
// error says that it may not survive a restart. The next call tries again to write it.
func (s *Service) changeState(change func(*state) bool) error {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	old := &s.blocks.state // written with stateMu held only
	st := state{Gaps: slices.Clone(old.Gaps), Uploads: slices.Clone(old.Uploads), Damaged: slices.Clone(old.Damaged)}
	if change(&st) {
		s.stateDirty = true
		s.blocks.mu.Lock()
		s.blocks.setState(st)
		s.blocks.mu.Unlock()
	}
	if !s.stateDirty {
		return nil
	}
	b, err := json.Marshal(s.blocks.state)
	if err == nil {
		err = writeFile(s.statePath(), b)
	}
	s.stateDirty = err != nil
	return err
}

// noteGaps remembers what the write-ahead log has lost, which must be before anything
// is cut off it.
func (s *Service) noteGaps() error {
	r := s.report.Load()
	return s.changeState(func(st *state) bool {
		before := len(st.Gaps)
		for _, d := range r.Damage {
			if s.inBlocks(d.FirstLSN, d.LastLSN) {
				continue // it was kept for tails only
			}
			if what := "write-ahead log of " + s.incarnation[:8] + ": " + d.String(); d.FirstLSN != 0 && !slices.Contains(st.Gaps, what) && len(st.Gaps) < maxGaps {
				st.Gaps = append(st.Gaps, what)
			}
		}
		return len(st.Gaps) > before
	})
}

// maxGaps bounds the gaps that are remembered.
const maxGaps = 1000

// gaps says what this incarnation is known to miss of its log.
func (s *Service) gaps() []string {
	s.blocks.mu.RLock()
	defer s.blocks.mu.RUnlock()
	all := s.blocks.state.Gaps
	if len(all) <= 16 {
		return slices.Clone(all)
	}
	return append(slices.Clone(all[:16]), fmt.Sprintf("and %d more", len(all)-16))
}

// writeFile replaces a file durably.
func writeFile(path string, b []byte) error {
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Dir(path), err)
	}
	return nil
}
