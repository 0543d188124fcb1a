// Package process tests the binaries as processes: with an environment, signals and an
// exit code, on a real NATS server. Tests within one process cover the details.
package process

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"example.org/ordertrail/test/systemtest"
)

// patience is how long a test waits for an event that should come soon.
const patience = systemtest.Patience

func TestMain(m *testing.M) { systemtest.Main(m, 4) }

var buildFlags = []string{"-ldflags=-s -w"} // halves the time to link

// build builds all binaries, when the first is needed, and returns their directory. It
// is the same each time, so that go build links only what has changed.
var build = sync.OnceValues(func() (dir string, err error) {
	// go test takes notice of the files that a test reads, and runs it again when
	// one has changed. The packages behind them are imported.
	for _, pattern := range []string{"../../*.go", "../../cmd/*/*.go", "../../go.sum"} {
		sources, err := filepath.Glob(pattern)
		if err != nil || len(sources) == 0 {
			return "", fmt.Errorf("no sources match %s: %w", pattern, err)
		}
		for _, s := range sources {
			if _, err := os.ReadFile(s); err != nil {
				return "", err
			}
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cache, "ordertrail-test", fmt.Sprintf("%x", sha256.Sum256([]byte(root+fmt.Sprint(buildFlags))))[:16])
	args := append([]string{"build", "-o", dir + "/"}, buildFlags...)
	cmd := exec.Command("go", append(args, ".", "./cmd/...", "github.com/nats-io/nats-server/v2")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return dir, nil
})

// binary returns the path of a binary.
func binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
