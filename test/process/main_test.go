// Package process tests the binaries as what they are: processes, with an
// environment, signals and an exit code, on a real NATS server. What the services
// do in detail is tested elsewhere, within one process.
package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen soon.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if name := os.Getenv(outsideService); name != "" { // the chaos tests start us as a service
		serveOutside(name)
		return
	}
	code := m.Run()
	_ = os.RemoveAll(binaries)
	os.Exit(code)
}

var buildFlags = []string{"-ldflags=-s -w"} // halves the time to link

var binaries string // the directory that they are in

// build makes all binaries, when the first is needed.
var build = sync.OnceValue(func() (err error) {
	// go test takes notice of the files that a test reads, and runs it again when
	// one has changed. The packages behind them are imported.
	for _, pattern := range []string{"../../*.go", "../../cmd/*/*.go", "../../go.sum"} {
		sources, err := filepath.Glob(pattern)
		if err != nil || len(sources) == 0 {
			return fmt.Errorf("no sources match %s: %w", pattern, err)
		}
		for _, s := range sources {
			if _, err := os.ReadFile(s); err != nil {
				return err
			}
		}
	}
	if binaries, err = os.MkdirTemp("", "ordertrail-binaries-"); err != nil {
		return err
	}
	args := append([]string{"build", "-o", binaries + "/"}, buildFlags...)
	cmd := exec.Command("go", append(args, ".", "./cmd/...", "github.com/nats-io/nats-server/v2")...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
})

// binary returns the path of a binary.
func binary(t testing.TB, name string) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(binaries, name)
}
