package systemtest

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// Main runs a package's tests, so many in parallel unless -parallel says otherwise:
// tests of whole systems mostly wait.
func Main(m *testing.M, parallel int) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		_ = f.Value.Set(fmt.Sprint(parallel))
	}
	os.Exit(m.Run())
}
