package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weir-logs/weir/libs/ring"
)

// The table's file: magic, encoded table, CRC32C of both (little endian).
const (
	fileMagic   = "WEIRRNG1"
	fileTrailer = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a file is there but is not one that we wrote whole.
var errDamaged = errors.New("gossip: damaged member table file")

// loadTable reads the file at path; if there is none the table is empty.
func loadTable(path string) (ring.Table, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ring.Table{}, nil
	}
	if err != nil {
		return ring.Table{}, err
	}
	if info.Size() > int64(len(fileMagic)+ring.MaxTableSize+fileTrailer) {
		return ring.Table{}, fmt.Errorf("%w: %s has %d bytes", errDamaged, path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return ring.Table{}, err
	}
	n := len(b) - fileTrailer
	if n < len(fileMagic) || string(b[:len(fileMagic)]) != fileMagic ||
		crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return ring.Table{}, fmt.Errorf("%w: %s: wrong magic or checksum", errDamaged, path)
	}
	t, err := ring.DecodeTable(b[len(fileMagic):n])
	if err != nil {
		return ring.Table{}, fmt.Errorf("%w: %s: %w", errDamaged, path, err)
	}
	return t, nil
}

// saveTable replaces the file at path, so that after a crash there is either
// the old table or the new one.
func saveTable(path string, t ring.Table) (err error) {
	b, _ := t.AppendBinary([]byte(fileMagic))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		// Best effort: the next save overwrites it.
		os.Remove(tmp)
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// keepAside moves a damaged file out of the way, for a person to look at.
func keepAside(path string) error {
	if err := os.Rename(path, path+".damaged"); err != nil {
		return fmt.Errorf("gossip: keep damaged member table: %w", err)
	}
	return nil
}
