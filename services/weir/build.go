package weir

import (
	"runtime"
	"runtime/debug"
)

// Build says which build a program is.
type Build struct {
	Version, Revision, Branch, Date, User, GoVersion string
}

// Set by the linker: -X github.com/weir-logs/weir/services/weir.version=…
var version, revision, branch, date, user string

// CurrentBuild returns the build of this program, as far as it is known.
func CurrentBuild() Build {
	b := Build{Version: version, Revision: revision, Branch: branch, Date: date, User: user, GoVersion: runtime.Version()}
	if b.Version == "" {
		b.Version = "dev"
	}
	if info, ok := debug.ReadBuildInfo(); ok && b.Revision == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}

// String returns one line for --version.
func (b Build) String() string {
	s := "weir " + b.Version
	if b.Revision != "" {
		s += " (" + b.Revision + ")"
	}
	return s + " " + b.GoVersion + " " + runtime.GOOS + "/" + runtime.GOARCH
}
