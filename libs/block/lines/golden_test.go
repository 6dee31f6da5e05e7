package lines_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

var update = flag.Bool("update", false, "write the golden files of the current version anew")

// goldenBlocks has every kind of column, slot, layout family and line. It never
// changes: golden files of old versions hold it.
func goldenBlocks() []block {
	const start = 1772368215123456789 // 2026-03-01T12:30:15.123456789Z
	var plain, nasty block
	for i := range 300 {
		x := uint64(i+1) * 0x9E3779B97F4A7C15
		for _, s := range []string{
			fmt.Sprintf("2026-03-01T12:30:%02d.%03dZ level=info id=%d rising=%d pad=%05d hex=%08x HEX=%010X", 15+i/100, i*7%1000, x>>40, 1000000+i*3, x>>50, uint32(x), x>>24),
			fmt.Sprintf("Mar  1 12:30:%02d host app[%d]: peer 10.%d.%d.1 is job-%d of blk_%03d", 15+i/100, 100+i%4, x>>56, x>>48&255, x>>44, x>>55),
			fmt.Sprintf(`{"id":"%08x-%04x-4%03x-8%03x-%012x","path":"/a/%s/%d","same":"7"}`, uint32(x), uint16(x>>8), x>>52, x>>50&0xfff, x>>16, []string{"users", "orders"}[i&1], x>>54),
			fmt.Sprintf("1772368215 1772368215%03d E0301 12:30:15.%06d 9 %d", i, i, i%3),
			fmt.Sprintf("%c%c wanders to %c%c", 'a'+x>>60, 'a'+x>>56&15, 'a'+x>>52&15, 'a'+x>>48&15),
		} {
			plain.lines.AppendString(s)
			plain.times = append(plain.times, start+int64(i)*1e7+int64(x>>45))
		}
	}
	for i, s := range []string{"", "\x00", "\x01\x80", "\x02", "\xff\xfe 1", "a\nb 2\n", "ü 3", strings.Repeat("7 ", 4097), strings.Repeat("long ", 14000), "00", "99999999999999999999"} {
		nasty.lines.AppendString(s)
		nasty.times = append(nasty.times, start-int64(i)*1e9)
	}
	nasty.runs = []uint32{4, uint32(len(nasty.times))}
	return []block{plain, nasty, plain}
}

// Sections that any version has written are read for ever.
func TestGoldenSections(t *testing.T) {
	if *update {
		name := filepath.Join("testdata", "section-v1.3.golden")
		if err := os.WriteFile(name, build(t, column.LevelDefault, goldenBlocks()), 0o644); err != nil {
			t.Fatal(err)
		}
		name = filepath.Join("testdata", "section-v1.2-pages.golden")
		if err := os.WriteFile(name, buildPaged(t, column.LevelDefault, goldenBlocks()), 0o644); err != nil {
			t.Fatal(err)
		}
		name = filepath.Join("testdata", "section-v1.2-rows.golden")
		if err := os.WriteFile(name, buildRows(t, column.LevelDefault, goldenBlocks()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	paths, _ := filepath.Glob(filepath.Join("testdata", "*.golden"))
	if len(paths) == 0 {
		t.Fatal("no golden files")
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		same(t, b, goldenBlocks())
	}
}

// Payloads do not depend on the compressor, so they are compared byte for byte.
func TestEncodingIsWhatItWas(t *testing.T) {
	for name, section := range map[string][]byte{
		"section-v1.3.golden":       build(t, column.LevelDefault, goldenBlocks()),
		"section-v1.2-pages.golden": buildPaged(t, column.LevelDefault, goldenBlocks()),
		"section-v1.2-rows.golden":  buildRows(t, column.LevelDefault, goldenBlocks()),
	} {
		golden, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := lines.Payloads(golden)
		if err != nil {
			t.Fatal(err)
		}
		got, err := lines.Payloads(section)
		if err != nil {
			t.Fatal(err)
		}
		if slices.EqualFunc(got, want, bytes.Equal) {
			continue
		}
		t.Error(name, "the encoder writes other bytes than it did: where that is meant and every reader of this version reads them, write the file anew with -update")
	}
}

// decodeAll decodes whatever it is given: rows that hold together, or an error that
// says that it is damage.
func decodeAll(t *testing.T, b []byte) {
	s, err := lines.Open(b)
	if err != nil {
		if !errors.Is(err, column.ErrCorrupt) {
			t.Fatalf("%v does not say that it is damage", err)
		}
		return
	}
	gram, _ := lines.Gram([]byte("job "))
	for i := range s.Blocks {
		s.Shared(i, gram)
		if s.Blocks[i].Bytes > 1<<20 {
			continue // within the limits, but slow
		}
		for _, row := range []int{s.Blocks[i].Rows / 2, s.Blocks[i].Rows - 1} {
			// Columns are not unpacked for few rows.
			if err := s.DecodeRange(i, row, row+1, &model.Rows{}); err != nil && !errors.Is(err, column.ErrCorrupt) {
				t.Fatalf("%v does not say that it is damage", err)
			}
		}
		if wrong, err := s.TakenWrong(i); wrong >= 0 || err != nil && !errors.Is(err, column.ErrCorrupt) {
			t.Fatalf("column %d is not as in its frame, or %v does not say that it is damage", wrong, err)
		}
		var rows model.Rows
		if err := s.Decode(i, &rows); err != nil {
			if !errors.Is(err, column.ErrCorrupt) {
				t.Fatalf("%v does not say that it is damage", err)
			}
			if rows.Len() > 0 || rows.Lines.Len() > 0 {
				t.Fatalf("rows in spite of %v", err)
			}
		} else if err := rows.Check(); err != nil {
			t.Fatal(err)
		} else if k := &s.Blocks[i]; rows.Len() != k.Rows || len(rows.Lines.Slab) != k.Bytes || slices.Min(rows.Times) < k.MinTime || slices.Max(rows.Times) > k.MaxTime {
			t.Fatal("the rows are not what the footer says")
		}
	}
}

// smallSection has a few templates with few columns in common, and a weekday.
func smallSection(t fataler) []byte {
	var b block
	for i := range 40 {
		x := uint64(i+1) * 0x9E3779B97F4A7C15
		line := fmt.Sprintf("job %03d of %d by %08x at 10.0.0.%d %c%c", i, i%3, uint32(x), i, 'a'+x>>60, 'a'+x>>55&15)
		switch i % 5 {
		case 1:
			line = fmt.Sprintf("Sun Mar  1 12:30:%02d 2026 step %d", 15+i, i*i)
		case 2:
			line = fmt.Sprintf("2026-03-01T12:30:%02d.000Z done", 15+i)
		case 4:
			line = fmt.Sprintf("\x00raw job %d", i) // shares a word with a template
		}
		b.lines.AppendString(line)
		b.times = append(b.times, 1772368215e9+int64(i)*1e9+int64(x>>50))
	}
	return build(t, column.LevelFastest, []block{b})
}

// FuzzOpen reads arbitrary sections.
func FuzzOpen(f *testing.F) {
	f.Add(smallSection(f))
	f.Add(build(f, column.LevelFastest, goldenBlocks()))
	f.Add(pagedSection(f))
	f.Add(buildPaged(f, column.LevelFastest, goldenBlocks()))
	f.Add(buildRows(f, column.LevelFastest, goldenBlocks()))
	f.Add(buildRows(f, column.LevelFastest, []block{pagedBlock()}))
	f.Add(listedTwice(smallSection(f)))
	f.Fuzz(decodeAll)
}

// listedTwice lists a template of a section twice, with its rows.
func listedTwice(section []byte) []byte {
	return lines.EditInfo(section, func(k *lines.BlockInfo) {
		i := slices.IndexFunc(k.Templates, func(c template.Count) bool { return c.Rows > 1 })
		c := k.Templates[i]
		c.Rows--
		k.Templates[i].Rows = 1
		k.Templates = append(k.Templates, c)
	})
}

// A list of templates has each of them once: one as long as a row group has rows, all of one
// template, would take memory and time for each of its entries.
func TestTemplateListedTwice(t *testing.T) {
	if _, err := lines.Open(smallSection(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := lines.Open(listedTwice(smallSection(t))); !errors.Is(err, column.ErrCorrupt) || !strings.Contains(err.Error(), "twice") {
		t.Error(err)
	}
}

// FuzzDecode reads sections whose checksums are right but whose payloads are not:
// what a bug or a foe writes, not what a disk does.
func FuzzDecode(f *testing.F) {
	sections := [][]byte{smallSection(f), pagedSection(f), buildRows(f, column.LevelFastest, []block{pagedBlock()})}
	for n := range byte(24) {
		f.Add(n, uint16(n)*3, []byte{1}, byte(0))
		f.Add(64+n, uint16(n)*3, []byte{1}, byte(0))
		f.Add(128+n, uint16(n)*3, []byte{1}, byte(0))
	}
	f.Fuzz(func(t *testing.T, frame byte, at uint16, x []byte, cut byte) {
		decodeAll(t, lines.Edit(sections[int(frame>>6)%len(sections)], func(n int, payload []byte) []byte {
			if n == int(frame&63) && len(payload) > 0 {
				at := int(at) % len(payload)
				tail := slices.Clone(payload[min(len(payload), at+int(cut)):])
				payload = append(append(payload[:at], x...), tail...)
			}
			return payload
		}))
	})
}

// Every byte of every payload changed in turn, with checksums right.
func TestChangedPayloads(t *testing.T) {
	changePayloads(t, smallSection(t), 1, 2, 4, 8, 16, 0x7f, 0x80, 0xff)
	changePayloads(t, pagedSection(t), 1, 0x80)
	changePayloads(t, buildRows(t, column.LevelFastest, []block{pagedBlock()}), 1, 0x80)
}

// stride is from a byte that is changed to the next: all are, but with WEIR_FEWER, as in the run
// with the race detector.
func stride() int {
	if os.Getenv("WEIR_FEWER") != "" {
		return 7
	}
	return 1
}

func changePayloads(t *testing.T, section []byte, bits ...byte) {
	frames := 0
	var sizes []int
	lines.Edit(section, func(n int, b []byte) []byte {
		frames, sizes = n+1, append(sizes, len(b))
		return b
	})
	for frame := range frames {
		for at := 0; at < sizes[frame]; at += stride() {
			for _, x := range bits {
				decodeAll(t, lines.Edit(section, func(n int, b []byte) []byte {
					if n == frame {
						b[at] ^= x
					}
					return b
				}))
			}
		}
	}
}

func TestChangedColumns(t *testing.T) {
	for name, edit := range map[string]func(c *column.Info){
		"time long past":  func(c *column.Info) { c.Min, c.Max = 1<<62, 1<<62 },
		"time far ahead":  func(c *column.Info) { c.Min, c.Max = 3<<62, 3<<62 },
		"time as text":    func(c *column.Info) { c.Kind = column.Int },
		"too many values": func(c *column.Info) { c.N++ },
		"too few values":  func(c *column.Info) { c.N-- },
		"other column":    func(c *column.Info) { c.ID += 1000 },
		"no such frame":   func(c *column.Info) { c.Frame, c.Size = 1000, 1 },
		"past the frame":  func(c *column.Info) { c.Size = 1 << 20 },
		"offset far off":  func(c *column.Info) { c.Offset, c.Size = 1<<28, 1 },
	} {
		edited := false
		section := lines.EditColumns(smallSection(t), func(infos []column.Info) {
			for i := range infos {
				if c := &infos[i]; c.Kind == column.Signed && !edited {
					edit(c)
					edited = true
				}
			}
			slices.SortFunc(infos, func(a, b column.Info) int { return int(a.ID) - int(b.ID) })
		})
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Decode(0, &model.Rows{}); !errors.Is(err, column.ErrCorrupt) || !edited {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzLines builds blocks of arbitrary lines and reads them back.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a 1\nb 2\n\n\x00\n2026-03-01T12:30:15.123Z x=10.0.0.1 \"q w 1\"\na 1\na 01\n"), int64(1772368215e9), uint8(3))
	f.Add([]byte("Mar  1 12:30:15 h\n1772368215\nI0301 12:30:15.123456 7\n\xff\xfe"), int64(1772368215e9), uint8(0))
	builder := lines.NewBuilder(column.LevelFastest)
	f.Fuzz(func(t *testing.T, data []byte, start int64, again uint8) {
		var b block
		for range 1 + again%20 {
			for line := range bytes.SplitSeq(data, []byte("\n")) {
				b.lines.Append(line)
				b.times = append(b.times, start+int64(len(b.times))*1e6)
			}
		}
		b.lines.Append(data)
		b.times = append(b.times, start)
		if len(b.times) > lines.MaxRows {
			return
		}
		builder.Reset()
		for range 2 {
			if _, err := builder.Add(&b.lines, b.times, nil); err != nil {
				t.Fatal(err)
			}
		}
		same(t, builder.Finish(), []block{b, b})
	})
}
