package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.org/ordertrail/test/full"
)

// directory returns an empty directory for the copy: the same one in each run, so that the
// build cache knows its packages.
func directory(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "ordertrail-test", fmt.Sprintf("rename-%x", sha256.Sum256([]byte(root)))[:23])
	remove := func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
	remove()
	t.Cleanup(remove)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A copy of the repository is renamed, built and tested under its new path. It
// must not contain the old one.
func TestRename(t *testing.T) {
	full.Only(t)
	const old, path = "example.org/ordertrail", "example.com/you/ordertrail"
	copied := directory(t)
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
	must(copied, "env", "GOWORK=off", "go", "list", "-deps", "./...") // its go.mod is complete
	must(copied, "go", "build", "./...", "./pkg/tracing/...")
	must(copied, "go", "test", "./internal/event", "./internal/catalog", "./services/payments")
}
