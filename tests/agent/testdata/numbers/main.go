// Command numbers writes numbered lines to its two outputs in turn, now and then one
// of 40,000 bytes, slowly enough to be followed.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	n, _ := strconv.Atoi(os.Args[1])
	for i := range n {
		out := os.Stdout
		if i%3 == 2 {
			out = os.Stderr
		}
		pad := i * 7 % 90
		if i%500 == 499 {
			pad = 40_000
		}
		fmt.Fprintf(out, "%d %s\n", i, strings.Repeat("x", pad))
		if i%20 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}
