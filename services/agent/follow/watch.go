package follow

import (
	"log/slog"

	"github.com/fsnotify/fsnotify"
)

// maxWatches bounds the folders that are watched; beyond them new files are
// found by looking every Config.Scan.
const maxWatches = 4096

// watcher tells of files that come and go in folders.
type watcher struct {
	// events gives something after any number of changes.
	events chan struct{}

	fs      *fsnotify.Watcher // nil: none
	folders map[string]bool
	done    chan struct{}
	log     *slog.Logger
}

func newWatcher(off bool, log *slog.Logger) *watcher {
	w := &watcher{events: make(chan struct{}, 1), folders: map[string]bool{}, done: make(chan struct{}), log: log}
	if !off {
		fs, err := fsnotify.NewWatcher()
		if err != nil {
			log.Warn("no events from the file system; looking for new files from time to time", "err", err)
		}
		w.fs = fs
	}
	if w.fs == nil {
		close(w.done)
		return w
	}
	go w.run()
	return w
}

func (w *watcher) run() {
	defer close(w.done)
	events, errs := w.fs.Events, w.fs.Errors
	for events != nil || errs != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			if !e.Has(fsnotify.Create | fsnotify.Remove | fsnotify.Rename) {
				continue
			}
		case _, ok := <-errs: // such as an overflow: events were lost
			if !ok {
				errs = nil
				continue
			}
		}
		select {
		case w.events <- struct{}{}:
		default:
		}
	}
}

// set watches these folders and no others.
func (w *watcher) set(folders map[string]bool) {
	if w.fs == nil {
		return
	}
	// A folder that was removed is forgotten by the system by itself, and may
	// have come again since.
	watched := map[string]bool{}
	for _, d := range w.fs.WatchList() {
		watched[d] = true
		if !folders[d] {
			_ = w.fs.Remove(d)
			delete(w.folders, d)
		}
	}
	for d := range folders {
		if watched[d] || len(watched) >= maxWatches {
			continue
		}
		if err := w.fs.Add(d); err != nil {
			if !w.folders[d] {
				w.log.Warn("cannot watch a folder; looking for new files from time to time", "path", d, "err", err)
			}
		} else {
			watched[d] = true
			select { // what came before the watch has no event
			case w.events <- struct{}{}:
			default:
			}
		}
		w.folders[d] = true
	}
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
	}
	<-w.done
}
