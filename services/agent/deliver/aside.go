package deliver

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// asideBytes is how large a file of refused entries gets before it takes the place
// of the one before it.
const asideBytes = 16 << 20

// aside keeps refused entries, one JSON object a line, in a file and the one before
// it (with .old behind its name).
type aside struct {
	path string // empty: nowhere

	mu sync.Mutex
}

func newAside(path string) *aside { return &aside{path: path} }

type asideEntry struct {
	Refused  time.Time         `json:"refused"`
	Reason   string            `json:"reason"`
	Message  string            `json:"message"`
	Tenant   string            `json:"tenant,omitempty"`
	Labels   map[string]string `json:"labels"`
	Time     time.Time         `json:"time"`
	Line     string            `json:"line,omitempty"`
	Raw      []byte            `json:"raw,omitempty"` // base64, of a line that is not UTF-8
	Metadata map[string]string `json:"metadata,omitempty"`
}

func (a *aside) write(tenant string, f refusal) error {
	if a.path == "" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(a.path), 0o700); err != nil {
		return err
	}
	if st, err := os.Stat(a.path); err == nil && st.Size() >= asideBytes {
		if err := os.Rename(a.path, a.path+".old"); err != nil {
			return err
		}
	}
	out, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for _, e := range f.entries {
		err := enc.Encode(asideEntry{
			Refused: time.Now().UTC(), Reason: f.reason, Message: f.message, Tenant: tenant, Labels: f.labels,
			Time: time.Unix(0, e.GetTimestampUnixNano()).UTC(), Line: e.GetText(), Raw: e.GetRaw(), Metadata: e.GetStructuredMetadata(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
