package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const (
	openAPI  = root + "/docs/api/openapi.yaml"
	asyncAPI = root + "/docs/api/asyncapi.yaml"
)

// description is a document of docs/api: YAML, whose schemas are JSON Schema 2020-12.
type description struct {
	whole    map[string]any
	compiler *jsonschema.Compiler
}

func describe(t *testing.T, path string) description {
	t.Helper()
	var whole any
	if err := yaml.Unmarshal([]byte(read(t, path)), &whole); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	encoded, err := json.Marshal(whole)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	resource, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	d := description{compiler: jsonschema.NewCompiler()}
	if err := d.compiler.AddResource("api.json", resource); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	d.whole = resource.(map[string]any)
	d.walk(t, d.whole, "#")
	return d
}

// walk compiles every schema, and reports references without a target.
func (d description) walk(t *testing.T, node any, at string) {
	t.Helper()
	switch node := node.(type) {
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok && d.at(ref) == nil {
			t.Errorf("%s: the reference %s has no target", at, ref)
		}
		for key, value := range node {
			child := at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
			if key == "schema" || strings.HasPrefix(child, "#/components/schemas/") && strings.Count(child, "/") == 3 {
				if _, err := d.compiler.Compile("api.json" + escaped(child)); err != nil {
					t.Errorf("%s: %v", child, err)
				}
			}
			d.walk(t, value, child)
		}
	case []any:
		for i, value := range node {
			d.walk(t, value, fmt.Sprint(at, "/", i))
		}
	}
}

// escaped returns a JSON Pointer as the fragment of a URL.
func escaped(pointer string) string {
	return "#" + (&url.URL{Path: strings.TrimPrefix(pointer, "#")}).EscapedPath()
}

// at returns the target of a reference, or nil.
func (d description) at(ref string) any {
	var node any = d.whole
	for _, key := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		inside, _ := node.(map[string]any)
		node = inside[strings.NewReplacer("~1", "/", "~0", "~").Replace(key)]
	}
	return node
}

// resolved returns the object at pointer and its place. If it is a reference, that is the
// target.
func (d description) resolved(pointer string) (map[string]any, string) {
	node, _ := d.at(pointer).(map[string]any)
	if ref, ok := node["$ref"].(string); ok {
		return d.resolved(ref)
	}
	return node, pointer
}

func pointer(parts ...string) string {
	for i, p := range parts {
		parts[i] = strings.NewReplacer("~", "~0", "/", "~1").Replace(p)
	}
	return "#/" + strings.Join(parts, "/")
}

func (d description) validate(schema string, text []byte, complain func(string, any)) {
	compiled, err := d.compiler.Compile("api.json" + escaped(schema))
	if err != nil {
		complain(schema, err)
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = compiled.Validate(value)
	}
	if err != nil {
		complain("the body", fmt.Sprintf("%v\n%.2000s", err, text))
	}
}

// TestAPIDocumentsAreMentioned checks that the README links every file of docs/api.
func TestAPIDocumentsAreMentioned(t *testing.T) {
	files, err := os.ReadDir(root + "/docs/api")
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, f := range files {
		if !strings.Contains(read(t, root+"/README.md"), "(docs/api/"+f.Name()+")") {
			t.Errorf("the README does not link docs/api/%s", f.Name())
		}
	}
}
