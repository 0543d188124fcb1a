package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/cli"
	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/view"
)

// URLs that sources have by default.
const (
	serveURL  = "http://127.0.0.1:8090"
	jaegerURL = "http://127.0.0.1:16686"
	tempoURL  = "http://127.0.0.1:3200"
)

// Bounds of show.
const (
	showTimeout = 30 * time.Second
	scanTraces  = 1000 // of Jaeger
)

func showCommand(f *flag.FlagSet) cli.Run {
	var src origin
	var o options
	var html string
	var asJSON, parents bool
	f.StringVar(&src.from, "from", "", "`URL` of a running trail serve, default "+serveURL)
	f.StringVar(&src.jaeger, "jaeger", "", "`URL` of Jaeger's query API instead, such as "+jaegerURL)
	f.StringVar(&src.tempo, "tempo", "", "`URL` of Tempo's API instead, such as "+tempoURL)
	f.StringVar(&src.file, "file", "", "`PATH` of a file with lines of OTLP JSON instead, as the collector's file exporter writes it; it may be gzipped")
	f.StringVar(&src.token, "token", os.Getenv("TRAIL_TOKEN"), "`TOKEN` to send to that URL, default $TRAIL_TOKEN")
	f.DurationVar(&src.since, "since", 24*time.Hour, "`AGE` of the oldest traces that are searched for in Jaeger and Tempo, default 24h")
	f.StringVar(&o.key, "key", "", "attribute that separates stories, such as order.id; default none")
	f.StringVar(&o.until, "until", "", "`NAME` of the span that ends the critical path; default: the last to end")
	f.BoolVar(&parents, "parents", false, "show the story as parents alone would draw it, without links, and what that loses")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&html, "html", "", "write one self-contained page to `FILE` instead")
	return func(ctx context.Context, out io.Writer, args []string) error {
		if len(args) != 1 || !isID(strings.ToLower(args[0])) {
			return cli.Usagef("show: want the id of a trace (32 hex digits) or of a span (16), such as: %s show 4bf92f3577b34da6a3ce929d0e0e4736", call)
		}
		id := strings.ToLower(args[0])
		var chosen []string
		for name, value := range map[string]string{"--from": src.from, "--jaeger": src.jaeger, "--tempo": src.tempo, "--file": src.file} {
			if value != "" {
				chosen = append(chosen, name)
			}
		}
		if len(chosen) > 1 {
			slices.Sort(chosen)
			return cli.Usagef("show: want one source, not %s", strings.Join(chosen, " and "))
		}
		if asJSON && html != "" {
			return cli.Usagef("show: want --json or --html, not both")
		}
		ctx, cancel := context.WithTimeout(ctx, showTimeout)
		defer cancel()
		s, err := read(ctx, src, id, o)
		if err != nil {
			return fmt.Errorf("show: %w", err)
		}
		if o.until != "" && s.CriticalPath.To != o.until {
			why := "no span of the story is named %q"
			if hasName(s, o.until) {
				why = "every span that is named %q failed"
			}
			fmt.Fprintf(os.Stderr, "trail: "+why+": the critical path ends with the last span\n", o.until)
		}
		return output(out, s, id, asJSON, html, parents)
	}
}

// hasName reports whether a span of a story has a name.
func hasName(s *trail.Story, name string) bool {
	return slices.ContainsFunc(s.Lanes, func(l trail.Lane) bool {
		return slices.ContainsFunc(l.Spans, func(n trail.Node) bool { return n.Name == name })
	})
}

// origin is where show reads from.
type origin struct {
	from, jaeger, tempo, file string
	token                     string
	since                     time.Duration
}

// read returns a story from the source that the flags name.
func read(ctx context.Context, src origin, id string, o options) (*trail.Story, error) {
	var source trail.Source
	where := src.jaeger + src.tempo + src.file // one of them
	switch {
	case src.file != "":
		store, err := trail.OpenFile(src.file)
		if err != nil {
			return nil, err
		}
		source = store
	case src.jaeger != "":
		base, err := cli.URL(src.jaeger, jaegerURL)
		if err != nil {
			return nil, err
		}
		jaeger := trail.NewJaeger(base)
		jaeger.Since, jaeger.Scan = src.since, scanTraces
		source, where = jaeger, "Jaeger at "+base.Redacted()
	case src.tempo != "":
		base, err := cli.URL(src.tempo, tempoURL)
		if err != nil {
			return nil, err
		}
		tempo := trail.NewTempo(base)
		tempo.Since = src.since
		source, where = tempo, "Tempo at "+base.Redacted()
	default:
		return fetch(ctx, cmp.Or(src.from, serveURL), src.token, id, o)
	}
	s, err := build(ctx, source, id, o)
	if err != nil {
		return nil, explain(err, id, where)
	}
	return s, nil
}

// fetch returns a story from a running trail serve.
func fetch(ctx context.Context, from, token, id string, o options) (*trail.Story, error) {
	base, err := cli.URL(from, serveURL)
	if err != nil {
		return nil, err
	}
	at := base.JoinPath("stories", id)
	query := url.Values{}
	if o.key != "" {
		query.Set("key", o.key)
	}
	if o.until != "" {
		query.Set("until", o.until)
	}
	at.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s does not answer: start trail serve, or name another source with --from, --jaeger, --tempo or --file: %w", base.Redacted(), err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		var problem struct{ Detail string }
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
		if json.Unmarshal(text, &problem) != nil || problem.Detail == "" {
			problem.Detail = strings.TrimSpace(answer.Status + ": " + string(text))
		}
		return nil, fmt.Errorf("%s: %s", base.Redacted(), problem.Detail)
	}
	s := new(trail.Story)
	if err := json.NewDecoder(answer.Body).Decode(s); err != nil {
		return nil, fmt.Errorf("%s: the answer is not a story: %w", base.Redacted(), err)
	}
	return s, nil
}

// output prints a story, or writes it to a file as a page.
func output(out io.Writer, s *trail.Story, id string, asJSON bool, html string, parents bool) error {
	if html != "" {
		text, err := page{Title: title(s, id), Story: view.New(s, view.Options{Static: true, Parents: parents})}.write()
		if err != nil {
			return err
		}
		return os.WriteFile(html, text, 0o644) // #nosec G306 -- pages are to be shared
	}
	if parents {
		s = trail.Parents(s)
	}
	if asJSON {
		text := json.NewEncoder(out)
		text.SetIndent("", "  ")
		return text.Encode(s)
	}
	return write(out, s, id, trail.WriteOptions{Color: cli.Colorful(os.Stdout), Columns: cli.Columns(os.Stdout)})
}
