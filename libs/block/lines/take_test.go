package lines_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// A body of which columns were taken says what one says of which none were, whatever else it is
// asked for, before and after, and whether or not reads fail in between.
func TestTakenColumnsAreThoseOfTheFrame(t *testing.T) {
	eachPaged(t, func(t *testing.T, build func(fataler, column.Level, []block) []byte) {
		blocks := []block{wide(300), made(997), pagedBlock()}
		blocks[1].runs = []uint32{100, 500, 997}
		data := build(t, column.LevelFastest, blocks)
		s, err := lines.Open(data)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			i := rapid.IntRange(0, len(blocks)-1).Draw(t, "block")
			b := data[s.Blocks[i].Offset:][:s.Blocks[i].Size]
			whole, err := s.Body(i, b)
			if err != nil {
				t.Fatal(err)
			}
			off, _ := s.Directory(i)
			failure := errors.New("the disk is away")
			var fail bool
			body, err := s.SparseBody(i, b[off:], func(from, n int) ([]byte, error) {
				if fail {
					return nil, failure
				}
				return bytes.Clone(b[from : from+n]), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "whole") {
				if body, err = s.Body(i, b); err != nil {
					t.Fatal(err)
				}
			}
			rows, columns := len(blocks[i].times), len(whole.Columns())
			for range rapid.IntRange(1, 8).Draw(t, "steps") {
				fail = rapid.IntRange(0, 9).Draw(t, "fails") == 0
				take := rapid.SliceOfN(rapid.IntRange(0, columns-1), 0, 4).Draw(t, "take")
				if err := body.Take(take); err != nil && !errors.Is(err, failure) {
					t.Fatal(err)
				}
				c := rapid.IntRange(0, columns-1).Draw(t, "column")
				from := rapid.IntRange(0, rows).Draw(t, "from")
				to := rapid.IntRange(from, min(rows, from+40)).Draw(t, "to")
				kind := rapid.IntRange(0, 3).Draw(t, "what")
				ask := func(b *lines.Body) (string, error) {
					switch kind {
					case 0:
						v, err := b.View(c)
						if err != nil || b.Columns()[c].Kind == column.Signed {
							return "", err
						}
						out := []byte{}
						for n := range b.Columns()[c].N {
							if out, err = v.Append(out, n); err != nil {
								return "", err
							}
							out = append(out, '|')
						}
						return string(out), nil
					case 1:
						p, err := b.Frame(c)
						return string(p), err
					case 2: // few rows
						var out model.Rows
						var some []uint32
						for r := from; r < to; r += 7 {
							some = append(some, uint32(r))
						}
						err := b.Select(some, &out)
						return fmt.Sprint(out.Times, string(out.Lines.Slab)), err
					}
					var out model.Rows
					err := b.Rows(from, to, &out)
					return fmt.Sprint(out.Times, string(out.Lines.Slab)), err
				}
				want, err := ask(whole)
				if err != nil {
					t.Fatal(err)
				}
				got, err := ask(body)
				if fail && errors.Is(err, failure) {
					continue
				}
				if err != nil || got != want {
					t.Fatalf("%d of block %d, column %d, rows %d to %d: %v, %.300q, not %.300q", kind, i, c, from, to, err, got, want)
				}
			}
			if body.MemorySize() < body.Held() {
				t.Fatalf("%d bytes of memory; %d are held", body.MemorySize(), body.Held())
			}
		})
	})
}

// What is kept of columns that were taken is theirs alone: less than all that they lie with.
func TestTakenColumnsLeaveTheOthers(t *testing.T) {
	data := buildRows(t, column.LevelFastest, append(goldenBlocks(), wide(300), pagedBlock()))
	s, err := lines.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for k := range s.Blocks {
		b := data[s.Blocks[k].Offset:][:s.Blocks[k].Size]
		off, _ := s.Directory(k)
		open := func() *lines.Body {
			b, err := s.SparseBody(k, b[off:], func(from, n int) ([]byte, error) { return bytes.Clone(b[from : from+n]), nil })
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for i := range open().Columns() {
			one, all := open(), open()
			if err := one.Take([]int{i}); err != nil {
				t.Fatal(err)
			}
			c := &one.Columns()[i]
			frame, err := all.Frame(i)
			if err != nil {
				t.Fatal(err)
			}
			if len(frame) == int(c.Size) || one.Held() == 0 { // it lies alone, or in no page of rows
				continue
			}
			taken++
			memory := one.MemorySize()
			if none := open(); none.HeldTemplates() < 0 || memory-none.MemorySize() < int(c.Size) {
				t.Fatalf("%d bytes of memory, %d without the %d of a column", memory, none.MemorySize(), c.Size)
			}
			if err := one.Take([]int{i, i}); err != nil || one.MemorySize() != memory {
				t.Fatalf("%d bytes of memory, %d once it is taken again, %v", memory, one.MemorySize(), err)
			}
			if _, err := one.View(i); err != nil {
				t.Fatal(err)
			}
			if !one.Here(i) || one.Held() != int(c.Size)+all.HeldTemplates() {
				t.Errorf("column %d of block %d: %d bytes of %d are held, of a frame of %d", i, k, one.Held(), c.Size, len(frame))
			}
		}
	}
	if taken == 0 {
		t.Error("no column lies with others in pages of rows")
	}
}

// Columns of which there is less or more than the directory says are damage.
func TestTakenColumnsAreWhole(t *testing.T) {
	plain := buildRows(t, column.LevelFastest, []block{pagedBlock()})
	take := func(section []byte, i int) (in bool, err error) {
		s, err := lines.Open(section)
		if err != nil {
			return true, err
		}
		b, err := s.Body(0, section[s.Blocks[0].Offset:][:s.Blocks[0].Size])
		if err != nil {
			return true, err
		}
		err = b.Take([]int{i})
		return b.Alone(i) != nil, err
	}
	s, err := lines.Open(plain)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Body(0, plain[s.Blocks[0].Offset:][:s.Blocks[0].Size])
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for i, c := range b.Columns() {
		if in, err := take(plain, i); err != nil {
			t.Fatal(err)
		} else if !in || c.HeadSize() == int(c.Size) {
			continue
		}
		taken++
		for name, edit := range map[string]func(c *column.Info){
			"a value more": func(c *column.Info) { c.N++ }, "a value less": func(c *column.Info) { c.N-- },
			"a byte more": func(c *column.Info) { c.Size++ }, "a byte less": func(c *column.Info) { c.Size-- },
		} {
			section := lines.EditColumns(plain, func(infos []column.Info) { edit(&infos[i]) })
			if _, err := take(section, i); !errors.Is(err, column.ErrCorrupt) {
				t.Errorf("%v column %d, %s: %v", c.Kind, i, name, err)
			}
		}
	}
	if taken == 0 {
		t.Error("no column is in pages of rows")
	}
}
