package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMessages checks that the messages that docs/compose.md and docs/security.md quote are
// in the sources.
func TestMessages(t *testing.T) {
	sources := ""
	for _, dir := range []string{"internal", "services"} {
		err := filepath.WalkDir(root+"/"+dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				sources += read(t, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, table, _ := strings.Cut(read(t, root+"/docs/compose.md"), "\n## When something is wrong\n")
	table, _, _ = strings.Cut(table, "\n## ")
	messages := []string{"NATS refuses what this user may not do: see nats/nats.conf", "refused a message"}
	for i, quoted := range strings.Split(table, "`") {
		// The server logs "no space left on device". One word is the name of a variable or path.
		if i%2 == 1 && strings.Contains(quoted, " ") && !strings.HasPrefix(quoted, "docker ") && quoted != "no space left on device" {
			messages = append(messages, quoted)
		}
	}
	if len(messages) < 8 {
		t.Errorf("found only the messages %q", messages)
	}
	for _, m := range messages {
		if !strings.Contains(sources, m) {
			t.Errorf("the documents quote %q, which the sources lack", m)
		}
	}
}
