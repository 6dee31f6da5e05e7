// Package arch holds the rules by which the repository's packages may use each
// other. It has no code but its tests.
package arch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/weir-logs/weir/"

// pkg is a package of the repository. Paths of the repository's own packages are
// without the module prefix.
type pkg struct {
	path    string
	dir     string
	files   []string // without tests
	imports []string // of the package itself
	tests   []string // of its tests
}

func load(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", "work")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir                             string
			GoFiles, Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, pkg{
			path: own(p.ImportPath), dir: p.Dir, files: p.GoFiles,
			imports: shorten(p.Imports), tests: shorten(append(p.TestImports, p.XTestImports...)),
		})
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list names %d packages only", len(pkgs))
	}
	return pkgs
}

func own(importPath string) string { return strings.TrimPrefix(importPath, module) }

func shorten(paths []string) []string {
	var out []string
	for _, p := range paths {
		if strings.HasPrefix(p, module) {
			out = append(out, own(p))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// layers from the lowest; a package may import its own layer and those below.
var layers = []string{"gen", "libs", "services", "tests"}

func layer(p string) int {
	top, _, _ := strings.Cut(p, "/")
	return slices.Index(layers, top)
}

// service returns the service that a package below services/ belongs to: "querier"
// of services/querier/cache, "cmd/weir" of services/cmd/weir; else "".
func service(p string) string {
	rest, ok := strings.CutPrefix(p, "services/")
	if !ok {
		return ""
	}
	parts := strings.Split(rest, "/")
	if parts[0] == "cmd" && len(parts) > 1 {
		return path.Join(parts[:2]...)
	}
	return parts[0]
}

// forTests reports whether a package exists for tests alone, like enginetest.
func forTests(p string) bool { return strings.HasSuffix(path.Base(p), "test") }

// mayImport returns why a package must not import another one, or "".
func mayImport(from, to string, inTest bool) string {
	lf, lt := layer(from), layer(to)
	if lt < 0 || lf < 0 {
		return "is of no known layer (" + strings.Join(layers, ", ") + ")"
	}
	if lt > lf {
		return fmt.Sprintf("points up: %s is above %s", layers[lt], layers[lf])
	}
	if forTests(to) && !inTest && !forTests(from) && layers[lf] != "tests" {
		return "brings a package for tests into the product"
	}
	sf, st := service(from), service(to)
	switch {
	case sf == "" || st == "" || sf == st:
	case st == "cmd" || strings.HasPrefix(st, "cmd/"):
		return "imports a command"
	case strings.HasPrefix(sf, "cmd/"): // a command may import what it runs
	case sf == "weir" && st != "agent" && st != "weirctl": // the composition
	default:
		return "imports another service: services meet over their rpcs"
	}
	return ""
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range load(t) {
		for _, to := range p.imports {
			if why := mayImport(p.path, to, false); why != "" {
				t.Errorf("%s → %s %s", p.path, to, why)
			}
		}
		for _, to := range p.tests {
			if why := mayImport(p.path, to, true); why != "" {
				t.Errorf("%s (tests) → %s %s", p.path, to, why)
			}
		}
	}
}

func TestMayImport(t *testing.T) {
	for _, c := range []struct {
		from, to string
		inTest   bool
		ok       bool
	}{
		{"libs/wal", "gen/go/weir/push/v1", false, true},
		{"libs/wal", "services/querier", false, false},
		{"gen/go/weir/push/v1", "libs/model", false, false},
		{"libs/model", "tests/arch", true, false},
		{"services/querier", "services/ingester", false, false},
		{"services/querier", "services/ingester/head", true, false},
		{"services/querier/cache", "services/querier", false, true},
		{"services/weir", "services/ingester", false, true},
		{"services/weir", "services/agent", false, false},
		{"services/agent/follow", "services/weir", true, false},
		{"services/cmd/weir", "services/weir", false, true},
		{"services/weir", "services/cmd/weir", false, false},
		{"services/cmd/weir", "services/cmd/weirctl", false, false},
		{"libs/wal", "libs/wal/waltest", false, false},
		{"libs/wal", "libs/wal/waltest", true, true},
		{"tests/cluster", "libs/wal/waltest", false, true},
		{"elsewhere/x", "libs/model", false, false},
	} {
		if why := mayImport(c.from, c.to, c.inTest); (why == "") != c.ok {
			t.Errorf("%s → %s (tests: %t): %q, want allowed: %t", c.from, c.to, c.inTest, why, c.ok)
		}
	}
}

// pure are the packages (and those below them) that turn values into values: no
// files, network, clock, randomness, log or goroutine.
var pure = []string{"libs/model", "libs/ring", "libs/block", "libs/logql/syntax", "libs/logql/pipeline"}

// shells are packages below the pure ones that do what those must not.
var shells = []string{"libs/ring/gossip"}

// impure are packages, or functions of packages that are otherwise harmless.
var impure = []string{
	"os", "os/exec", "os/signal", "io/ioutil", "log", "log/slog", "net/http", "net/rpc", "syscall", "golang.org/x/sys/unix",
	"math/rand", "math/rand/v2", "crypto/rand", "google.golang.org/grpc",
	"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.Tick", "time.NewTimer", "time.NewTicker",
	"net.Dial", "net.DialTimeout", "net.Listen", "net.ListenPacket", "net.LookupHost", "net.LookupIP", "net.LookupAddr", "net.InterfaceAddrs", "net.Interfaces",
}

func TestPurePackages(t *testing.T) {
	for _, p := range load(t) {
		under := func(root string) bool { return p.path == root || strings.HasPrefix(p.path, root+"/") }
		if !slices.ContainsFunc(pure, under) || slices.ContainsFunc(shells, under) || forTests(p.path) {
			continue
		}
		for _, f := range p.files {
			name := filepath.Join(p.dir, f)
			for _, use := range impurities(t, name) {
				t.Errorf("%s/%s %s, but %s is pure", p.path, f, use, p.path)
			}
		}
	}
}

// impurities returns what a file does that a pure one must not.
func impurities(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return inspect(f)
}

func inspect(f *ast.File) []string {
	var found []string
	imported := map[string]string{} // name in the file → path
	for _, imp := range f.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(p)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		imported[name] = p
		if slices.Contains(impure, p) {
			found = append(found, "imports "+p)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, "starts a goroutine")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				if use := imported[x.Name] + "." + n.Sel.Name; slices.Contains(impure, use) {
					found = append(found, "uses "+use)
				}
			}
		}
		return true
	})
	return found
}

func TestInspect(t *testing.T) {
	const src = `package x
import ("os"; clock "time"; "strings")
func f() { go func() {}(); _ = clock.Now(); _ = clock.Second; _ = strings.ToUpper(""); _ = os.Args }
`
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"imports os", "starts a goroutine", "uses time.Now"}
	if got := inspect(f); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
