// Command ratios reads the output of go test -bench -count=n and prints a table
// of the fastest of the n runs, as ratios to the floor of the same group, and to
// the honest floor where there is one. The fastest run is the one that other
// programs on the machine have disturbed least.
package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

type result struct {
	ns     float64
	allocs string
}

var line = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op.*?(\d+) allocs/op`)

func main() {
	results, names := map[string]result{}, []string{}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		m := line.FindStringSubmatch(in.Text())
		if m == nil {
			continue
		}
		ns, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			continue
		}
		old, known := results[m[1]]
		if !known {
			names = append(names, m[1])
		}
		if !known || ns < old.ns {
			results[m[1]] = result{ns, m[3]}
		}
	}
	if len(names) == 0 {
		fmt.Fprintln(os.Stderr, "ratios: no results with ns/op and allocs/op on standard input")
		os.Exit(1)
	}
	fmt.Println("| benchmark | ns | allocations | of the floor | of the honest floor |")
	fmt.Println("|---|---|---|---|---|")
	for _, name := range names {
		group := name[:strings.LastIndex(name, "/")]
		honest := group + "/Honest"
		if strings.HasSuffix(name, "Ce") {
			honest += "Ce"
		}
		r := results[name]
		fmt.Printf("| %s | %.0f | %s | %s | %s |\n", name, r.ns, r.allocs, ratio(r, results[group+"/Floor"]), ratio(r, results[honest]))
	}
}

func ratio(r, of result) string {
	if of.ns == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", r.ns/of.ns)
}
