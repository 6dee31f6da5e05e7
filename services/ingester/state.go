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
// uploads that are done again, and the memory of damage that is found again.
type state struct {
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
// error says that it may not survive a restart.
func (s *Service) changeState(change func(*state) bool) error {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	st := state{Uploads: slices.Clone(s.blocks.state.Uploads), Damaged: slices.Clone(s.blocks.state.Damaged)} // written with stateMu held only
	if !change(&st) {
		return nil
	}
	s.blocks.mu.Lock()
	s.blocks.setState(st)
	s.blocks.mu.Unlock()
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return writeFile(s.statePath(), b)
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
