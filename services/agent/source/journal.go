package source

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/entry"
)

// Journal reads systemd's journal through journalctl, which knows all of its
// formats, and goes on at a cursor.
type Journal struct {
	h   *Hub
	cfg *config.Journal
	// Command is the program; journalctl.
	Command string
}

// NewJournal makes a Journal.
func NewJournal(h *Hub, cfg *config.Journal) *Journal {
	return &Journal{h: h, cfg: cfg, Command: "journalctl"}
}

// maxJournalField bounds a field of the journal.
const maxJournalField = 16 << 20

var priorities = [...]string{"emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"}

// Run implements Source.
func (j *Journal) Run(ctx context.Context) error {
	p := j.h.Open("journal", cmp.Or(j.cfg.Path, "system"), "cursor-"+j.h.Job)
	defer j.h.Done(p)
	at := p.Cursor()
	waits := client.Backoff{Min: time.Second, Max: 30 * time.Second}
	for attempt := 0; ctx.Err() == nil; attempt++ {
		began := time.Now()
		next, err := j.follow(ctx, p, at)
		if ctx.Err() != nil {
			return nil
		}
		j.h.Count("journal", "ended")
		p.Stat().Fail(err)
		j.h.log().Error("journalctl has ended; starting it again", "err", err)
		if next == at && at != "" && time.Since(began) < 5*time.Second && attempt > 2 {
			// The entry of the cursor may be gone: go on by time.
			j.h.log().Warn("the journal's cursor is of no use; going on by age", "cursor", at)
			next = ""
		}
		if time.Since(began) > time.Minute {
			attempt = 0
		}
		at = next
		t := time.NewTimer(waits.Wait(attempt, 0))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
	return nil
}

func (j *Journal) args(at string) []string {
	args := []string{"--output=export", "--follow", "--no-tail", "--quiet"}
	if j.cfg.Path != "" {
		args = append(args, "--directory="+j.cfg.Path)
	}
	if at != "" {
		args = append(args, "--after-cursor="+at)
	}
	// Also with a cursor: it may be too old.
	age := cmp.Or(j.cfg.MaxAge, 7*time.Hour)
	args = append(args, "--since=@"+strconv.FormatInt(time.Now().Add(-age).Unix(), 10))
	return append(args, strings.Fields(j.cfg.Matches)...)
}

// follow runs journalctl until it ends, and gives the cursor of the last entry.
func (j *Journal) follow(ctx context.Context, p *Port, at string) (string, error) {
	cmd := exec.CommandContext(ctx, j.Command, j.args(at)...) //nolint:gosec // the configuration's own words
	cmd.WaitDelay = time.Second
	var complaint tailBuffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return at, err
	}
	if err := cmd.Start(); err != nil {
		return at, err
	}
	next, err := j.read(ctx, p, out, at)
	if ctx.Err() == nil && err != nil {
		_ = cmd.Process.Kill()
	}
	werr := cmd.Wait()
	if err == nil {
		err = cmp.Or(werr, errors.New("end of output"))
	}
	if s := complaint.String(); s != "" {
		err = fmt.Errorf("%w: %s", err, s)
	}
	return next, err
}

// tailBuffer keeps the first of what is written to it.
type tailBuffer struct{ b []byte }

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.b = append(t.b, p[:min(len(p), 1024-min(1024, len(t.b)))]...)
	return len(p), nil
}

func (t *tailBuffer) String() string { return strings.TrimSpace(string(t.b)) }

// read hands on entries of the export format until it ends.
func (j *Journal) read(ctx context.Context, p *Port, r io.Reader, at string) (string, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	var ents []entry.Entry
	for {
		fields, err := ReadExport(br)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return at, err
		}
		cursor := fields["__CURSOR"]
		if cursor == "" {
			continue
		}
		if e, ok := j.entry(fields); ok {
			ents = append(ents, e)
		}
		at = cursor
		// Together, as many as are there.
		if br.Buffered() > 0 && len(ents) < 512 {
			continue
		}
		if err := p.Put(ctx, ents, at); err != nil {
			return at, err
		}
		p.Stat().Fail(nil)
		ents = ents[:0]
	}
}

// entry makes an entry of a journal's; false: it is left out.
func (j *Journal) entry(fields map[string]string) (e entry.Entry, ok bool) {
	labels := maps.Clone(j.cfg.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for n, v := range fields {
		if strings.HasPrefix(n, "__") && n != "__CURSOR" || n == "MESSAGE" || len(v) > 4096 || !utf8.ValidString(v) {
			continue
		}
		if n != "__CURSOR" {
			labels["__journal_"+strings.ToLower(n)] = v
		}
	}
	if n, err := strconv.Atoi(fields["PRIORITY"]); err == nil && n >= 0 && n < len(priorities) {
		labels["__journal_priority_keyword"] = priorities[n]
	}
	set, ok := j.h.Relabel.Set(labels)
	if !ok {
		return e, false
	}
	if len(set.Labels()) == 0 {
		j.h.Count("journal", "empty_labels")
		return e, false
	}
	line, there := fields["MESSAGE"]
	e = entry.Entry{Labels: set, Line: []byte(line), OwnTime: true}
	if j.cfg.JSON {
		delete(fields, "__CURSOR")
		e.Line, _ = json.Marshal(fields)
	} else if !there {
		j.h.Count("journal", "no_message")
		return e, false
	}
	us, err := strconv.ParseInt(fields["__REALTIME_TIMESTAMP"], 10, 64)
	if err != nil {
		j.h.Count("journal", "no_time")
		return e, false
	}
	e.Time = us * 1000
	// Entries of one microsecond are told apart, the same way each time.
	if s := fields["__SEQNUM"]; s != "" {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			e.Time += n % 1000
		}
	} else if m, err := strconv.ParseInt(fields["__MONOTONIC_TIMESTAMP"], 10, 64); err == nil {
		e.Time += m % 1000
	}
	return e, true
}

var errExport = errors.New("journal: not the export format")

// ReadExport reads one entry of the journal's export format. io.EOF: there is none.
func ReadExport(r *bufio.Reader) (map[string]string, error) {
	out := map[string]string{}
	total := 0
	for {
		line, err := readLine(r)
		if err != nil {
			if errors.Is(err, io.EOF) && len(out) > 0 {
				return out, nil
			}
			return nil, err
		}
		if len(line) == 0 {
			if len(out) == 0 {
				continue
			}
			return out, nil
		}
		name, value, plain := bytes.Cut(line, []byte("="))
		key := string(name)
		if plain {
			out[key] = string(value)
			total += len(line)
		} else {
			var size [8]byte
			if _, err := io.ReadFull(r, size[:]); err != nil {
				return nil, errExport
			}
			n := binary.LittleEndian.Uint64(size[:])
			if n > maxJournalField {
				return nil, fmt.Errorf("%w: a field of %d bytes", errExport, n)
			}
			v, err := io.ReadAll(io.LimitReader(r, int64(n)))
			if err != nil || uint64(len(v)) != n {
				return nil, errExport
			}
			if c, err := r.ReadByte(); err != nil || c != '\n' {
				return nil, errExport
			}
			out[key] = string(v)
			total += len(v)
		}
		if total > 4*maxJournalField {
			return nil, fmt.Errorf("%w: an entry of more than %d bytes", errExport, total)
		}
	}
}

// readLine reads up to a newline, which it takes away, at most maxJournalField
// bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := r.ReadSlice('\n')
		if err == nil && out == nil {
			return part[:len(part)-1], nil
		}
		out = append(out, part...)
		switch {
		case err == nil:
			return out[:len(out)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if errors.Is(err, io.EOF) && len(out) > 0 {
				return nil, errExport
			}
			return nil, err
		case len(out) > maxJournalField:
			return nil, errExport
		}
	}
}
