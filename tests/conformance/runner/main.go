// Command runner checks a server against recorded answers of Loki.
//
//	go run ./tests/conformance/runner -addr http://127.0.0.1:3100 -push \
//		-data tests/conformance/data/own.jsonl.gz -cases tests/conformance/cases
//
// It exits with 0 when every case that counts passed, 1 when some failed and 2
// when it could not run. Quirks never count; with -required only the groups of that
// file do.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/weir-logs/weir/tests/conformance/internal/corpus"
	"github.com/weir-logs/weir/tests/conformance/internal/suite"
)

func main() {
	addr := flag.String("addr", "", "server, http://host:port")
	push := flag.Bool("push", false, "push the corpus first")
	pushFormat := flag.String("push-format", "json", "how to push the corpus: json or protobuf")
	only := flag.String("only", "", "run only cases whose name matches this regexp")
	skip := flag.String("skip", "", "leave out cases whose name matches this regexp")
	tenant := flag.String("tenant", "", "send this as X-Scope-OrgID")
	dir := flag.String("cases", "", "directory with case files (searched recursively)")
	data := flag.String("data", "data/corpus.jsonl.gz", "corpus")
	report := flag.String("json", "", "write a JSON report to this file")
	show := flag.Int("show", 10, "number of failures to show")
	workers := flag.Int("workers", 4, "parallel requests")
	wait := flag.Duration("wait", time.Minute, "how long the pushed corpus may take to become readable")
	requiredFile := flag.String("required", "", "file with the groups that have to pass; the others are only reported")
	quirks := flag.Bool("quirks", false, "show failing quirk cases, too")
	flag.Parse()

	if *addr == "" || *dir == "" {
		fail("usage: runner -addr URL -cases DIR [-push] [-only REGEXP] [-tenant ID] [-json FILE]")
	}
	onlyRE, err := regexp.Compile(*only)
	check(err)
	skipRE, err := regexp.Compile(*skip)
	check(err)
	var required map[string]bool
	if *requiredFile != "" {
		required, err = suite.Required(*requiredFile)
		check(err)
	}
	all, err := suite.Load(*dir)
	check(err)
	var cases []*suite.Case
	for _, c := range all {
		if onlyRE.MatchString(c.Name) && (*skip == "" || !skipRE.MatchString(c.Name)) {
			cases = append(cases, c)
		}
	}
	srv := suite.NewServer(*addr, *tenant)
	srv.HTTP.Transport = &http.Transport{MaxIdleConnsPerHost: *workers, DisableCompression: true}
	if *push {
		streams, err := corpus.Read(*data)
		check(err)
		start := time.Now()
		check(srv.PushCorpus(streams, *pushFormat))
		if err := srv.WaitReadable(streams, *wait); err != nil {
			fmt.Fprintln(os.Stderr, "warning: going on although the corpus is not readable in full:", err)
		}
		fmt.Printf("pushed %d streams in %s\n", len(streams), time.Since(start).Round(time.Millisecond))
	}

	results := suite.RunAll(srv, cases, *workers)
	suite.Summarise(os.Stdout, results, *show, *quirks)
	if *report != "" {
		b, err := json.MarshalIndent(results, "", " ")
		check(err)
		check(os.WriteFile(*report, append(b, '\n'), 0o644))
	}
	passed, failed, broken := 0, 0, 0
	for _, r := range results {
		switch {
		case r.Quirk:
		case r.Pass:
			passed++
		default:
			failed++
			if r.Counts(required) {
				broken++
			}
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if required != nil {
		fmt.Printf("%d failures in the groups that have to pass\n", broken)
	}
	if broken > 0 {
		os.Exit(1)
	}
}

func fail(msg string) {
	fmt.Fprintln(os.Stderr, msg)
	os.Exit(2)
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}
