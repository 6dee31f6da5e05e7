package positions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFile is the largest positions file that is read, far beyond any that is
// written.
const maxFile = 256 << 20

// Store keeps a snapshot in a file, and the one before it in a second file with
// `.old` behind its name. Not safe for concurrent use.
type Store struct {
	path string
	good bool // the file holds a snapshot that can be read
}

// NewStore keeps snapshots in the file path.
func NewStore(path string) *Store { return &Store{path: path} }

// Load reads the newest snapshot that is whole. Where there was a file but none
// is whole, or it is not the newest, err says what is wrong with the ones before
// it; the snapshot, maybe an empty one, is to be used all the same.
func (s *Store) Load() (snap Snapshot, err error) {
	var problems []error
	for _, name := range []string{s.path, s.path + ".old"} {
		snap, e := read(name)
		switch {
		case e == nil:
			s.good = name == s.path
			return snap, errors.Join(problems...)
		case !errors.Is(e, fs.ErrNotExist):
			problems = append(problems, fmt.Errorf("%s: %w", name, e))
		}
	}
	return Snapshot{}, errors.Join(problems...)
}

func read(name string) (Snapshot, error) {
	st, err := os.Stat(name)
	if err != nil {
		return Snapshot{}, err
	}
	if st.Size() > maxFile {
		return Snapshot{}, fmt.Errorf("%w: %d bytes", ErrDamaged, st.Size())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return Snapshot{}, err
	}
	return Decode(data)
}

// Save replaces the snapshot; it is on disk when Save returns nil. A crash at any
// moment leaves this one or the one before.
func (s *Store) Save(snap Snapshot) error {
	tmp := s.path + ".tmp"
	if err := writeSynced(tmp, Encode(snap)); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	// A damaged file must not take the place of the good one before it.
	aside := s.path + ".old"
	if !s.good {
		aside = s.path + ".damaged"
	}
	if err := os.Rename(s.path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.good = false
	if err := os.Rename(tmp, s.path); err != nil {
		return err
	}
	s.good = true
	return SyncDir(filepath.Dir(s.path))
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes what was created, renamed and removed in a directory durable.
func SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
