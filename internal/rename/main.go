// Command rename gives a copy of this repository another module path. It rewrites the
// path in all files that git tracks: modules, imports, documents and scripts.
//
//	go run ./internal/rename example.com/you/ordertrail
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	force := flag.Bool("force", false, "also rename with uncommitted changes")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/rename [-force] MODULE, such as example.com/you/ordertrail")
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := rename(flag.Arg(0), *force); err != nil {
		fmt.Fprintf(os.Stderr, "rename: %v\n", err)
		os.Exit(1)
	}
}

var (
	modulePath = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+(/[A-Za-z0-9._~-]+)+$`)
	moduleLine = regexp.MustCompile(`(?m)^module (\S+)$`)
)

// rename rewrites the checkout that contains the working directory.
func rename(to string, force bool) error {
	if !modulePath.MatchString(to) {
		return fmt.Errorf("want a module path whose first element has a dot, such as example.com/you/ordertrail, not %q", to)
	}
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if err := os.Chdir(strings.TrimSpace(top)); err != nil {
		return err
	}
	changes, err := git("status", "--porcelain")
	if err != nil {
		return err
	}
	if changes != "" && !force {
		return errors.New("the checkout has uncommitted changes: commit them, or add -force")
	}
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	found := moduleLine.FindSubmatch(gomod)
	if found == nil {
		return errors.New("go.mod has no module line")
	}
	from := string(found[1])
	old := regexp.MustCompile(`\b` + regexp.QuoteMeta(from) + `\b`)
	files, err := git("ls-files", "-z")
	if err != nil {
		return err
	}
	var gofiles []string
	for _, file := range strings.FieldsFunc(files, func(r rune) bool { return r == 0 }) {
		info, err := os.Lstat(file)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if bytes.IndexByte(text, 0) >= 0 { // not a text
			continue
		}
		n := len(old.FindAllIndex(text, -1))
		if n == 0 {
			continue
		}
		if err := os.WriteFile(file, old.ReplaceAllLiteral(text, []byte(to)), info.Mode().Perm()); err != nil {
			return err
		}
		fmt.Printf("%s: %d\n", file, n)
		if filepath.Ext(file) == ".go" {
			gofiles = append(gofiles, file)
		}
	}
	if len(gofiles) > 0 { // the order of imports depends on the path
		if out, err := exec.Command("gofmt", append([]string{"-w"}, gofiles...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("gofmt: %w: %s", err, out)
		}
	}
	fmt.Printf("renamed %s to %s; next: go vet work\n", from, to)
	return nil
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return string(out), nil
}
