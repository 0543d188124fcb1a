package docs

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.org/ordertrail/internal/service"
	// The test reads its sources. With the import, Go runs it again when they change.
	_ "example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/internal/web"
)

// docs/settings.md has the settings that the program reads, no more and no less. Of
// OpenTelemetry's variables it has only those that package telemetry knows. The README
// has some of them.
func TestSettings(t *testing.T) {
	shown := variables(read(t, root+"/docs/settings.md"))
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`Getenv\("([A-Z_]+)"\)`).FindAllStringSubmatch(read(t, root+"/internal/service/settings.go"), -1) {
		known[m[1]] = true
	}
	if len(known) < 5 {
		t.Fatalf("found only the settings %v in settings.go", slices.Sorted(maps.Keys(known)))
	}
	for name := range known {
		if !shown[name] {
			t.Errorf("docs/settings.md lacks %s", name)
		}
	}
	telemetry := ""
	for _, name := range []string{"doc", "environment", "exporters"} {
		telemetry += read(t, root+"/internal/telemetry/"+name+".go")
	}
	for name := range shown {
		if !known[name] && !(strings.HasPrefix(name, "OTEL_") && strings.Contains(telemetry, name)) {
			t.Errorf("docs/settings.md has %s, which the program does not read", name)
		}
	}
	_, section, _ := strings.Cut(read(t, root+"/README.md"), "\n## Settings\n")
	section, _, _ = strings.Cut(section, "\n## ")
	short := variables(section)
	if len(short) == 0 {
		t.Error("the README has no table of settings")
	}
	for name := range short {
		if !shown[name] {
			t.Errorf("the README has %s, which docs/settings.md lacks", name)
		}
	}
}

// The section about the six binaries enables trails: with the variables that it exports,
// the pages link to the service map and to Jaeger, and spans are sent.
func TestServerHasTrails(t *testing.T) {
	line := regexp.MustCompile(`(?m)^export (OTEL_.*)$`).FindStringSubmatch(read(t, root+"/docs/server.md"))
	if line == nil {
		t.Fatal("docs/server.md exports no variables for traces")
	}
	for pair := range strings.FieldsSeq(line[1]) {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	settings, err := service.ReadSettings()
	if err != nil {
		t.Fatal(err)
	}
	if site := web.SiteOf(settings); site.Services == "" || site.Jaeger == "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		t.Errorf("with %s the pages link to %+v, want the service map and Jaeger", line[1], site)
	}
}

// variables returns the names in the first column of a document's tables.
func variables(text string) map[string]bool {
	names := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(text, -1) {
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(row[1], -1) {
			names[name[1]] = true
		}
	}
	return names
}
