// Command ratios reads the output of n runs of go test -bench and prints a table of
// their medians, with the ratios to the floor of the same group, and to the honest
// floor where there is one.
package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

type result struct {
	ns     []float64
	allocs string
}

func (r result) median() float64 {
	slices.Sort(r.ns)
	return r.ns[len(r.ns)/2]
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
		if _, known := results[m[1]]; !known {
			names = append(names, m[1])
		}
		results[m[1]] = result{append(results[m[1]].ns, ns), m[3]}
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
		for _, row := range []string{"Ce", "Metrics"} {
			if strings.HasSuffix(name, row) {
				honest += row
			}
		}
		r := results[name]
		fmt.Printf("| %s | %.0f | %s | %s | %s |\n", name, r.median(), r.allocs, ratio(r, results[group+"/Floor"]), ratio(r, results[honest]))
	}
}

func ratio(r, of result) string {
	if of.ns == nil {
		return ""
	}
	return fmt.Sprintf("%.2f", r.median()/of.median())
}
