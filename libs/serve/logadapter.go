package serve

import (
	"context"
	"fmt"
	"log/slog"
)

// logAdapter lets the module manager, which logs pairs of keys and values, log to slog.
type logAdapter struct{ log *slog.Logger }

// Log implements go-kit's Logger.
func (a logAdapter) Log(pairs ...any) error {
	level, msg := slog.LevelInfo, "modules"
	attrs := make([]slog.Attr, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		key := fmt.Sprint(pairs[i])
		switch key {
		case "level":
			if err := level.UnmarshalText([]byte(fmt.Sprint(pairs[i+1]))); err != nil {
				level = slog.LevelInfo
			}
		case "msg":
			msg = fmt.Sprint(pairs[i+1])
		default:
			attrs = append(attrs, slog.Any(key, pairs[i+1]))
		}
	}
	a.log.LogAttrs(context.Background(), level, msg, attrs...)
	return nil
}
