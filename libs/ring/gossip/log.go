package gossip

import (
	"bytes"
	"context"
	"log/slog"
)

// logWriter turns memberlist's lines into structured ones. Its errors mostly
// mean that some peer is away, which heals by itself: they are warnings here.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	line := bytes.TrimSpace(p)
	level := slog.LevelDebug
	if prefix, rest, ok := bytes.Cut(line, []byte("] ")); ok && bytes.HasPrefix(prefix, []byte("[")) {
		switch string(prefix[1:]) {
		case "WARN", "ERR", "ERROR":
			level = slog.LevelWarn
		}
		line = rest
	}
	line = bytes.TrimPrefix(line, []byte("memberlist: "))
	w.log.Log(context.Background(), level, "memberlist: "+string(line))
	return len(p), nil
}
