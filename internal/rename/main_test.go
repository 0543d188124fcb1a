package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A copy of the repository is renamed, built and tested under its new path. It
// must not contain the old one.
func TestRename(t *testing.T) {
	const old, path = "example.org/ordertrail", "example.com/you/ordertrail"
	copied := t.TempDir()
	in := func(dir, name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@localhost", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@localhost")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(dir, name string, args ...string) string {
		t.Helper()
		out, err := in(dir, name, args...)
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return out
	}
	const root = "../.."
	if _, err := in(root, "git", "rev-parse"); err != nil {
		t.Skip("not a git checkout")
	}
	for file := range strings.SplitSeq(strings.Trim(must(root, "git", "ls-files", "-z"), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // deleted, but not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(copied, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	must(copied, "git", "init", "-q")
	must(copied, "git", "add", "-A")
	if out, err := in(copied, "go", "run", "./internal/rename", path); err == nil || !strings.Contains(out, "uncommitted changes") {
		t.Errorf("with uncommitted changes: %v, %s", err, out)
	}
	must(copied, "git", "commit", "-q", "-m", "copy")
	if out, err := in(copied, "go", "run", "./internal/rename", "ordertrail/mine"); err == nil || !strings.Contains(out, "has a dot") {
		t.Errorf("without a dot: %v, %s", err, out)
	}
	if out := must(copied, "go", "run", "./internal/rename", path); !strings.Contains(out, "go.mod: ") {
		t.Errorf("the command printed %s", out)
	}
	if out, err := in(copied, "git", "grep", "-l", old); err == nil {
		t.Errorf("these files contain the old path:\n%s", out)
	}
	must(filepath.Join(copied, "pkg", "tracing"), "go", "build", "./...")
	must(copied, "env", "GOWORK=off", "go", "build", "./...")
	must(copied, "go", "test", "./internal/event", "./internal/catalog", "./trail", "./services/payments")
}
