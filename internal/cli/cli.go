// Package cli runs the commands of a program, and prints their usage.
package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"

	"example.org/ordertrail/trail"
)

// Program is a program with commands.
type Program struct {
	Call     string // how a user starts it, such as "go run ."
	About    string // what it does, a sentence
	Notes    string // printed after the commands
	Commands []Command
	Default  string // the command without a name among the arguments; "" for help
}

// Command is a command of a program.
type Command struct {
	Name string
	Args string // the arguments, for the usage; "" if it takes none
	Help string // one line
	// Setup defines the command's flags and returns the function that runs it.
	Setup func(*flag.FlagSet) Run
}

// Run runs a command with its arguments. It prints to out and need not check whether that
// failed: [Program.Run] returns the first such error.
type Run func(ctx context.Context, out io.Writer, args []string) error

// ErrUsage is wrapped by the error of a wrong command line.
var ErrUsage = errors.New("usage")

// Usagef returns an error that wraps [ErrUsage]. Its text does not mention that.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

type usageError struct{ error }

func (e usageError) Unwrap() []error { return []error{e.error, ErrUsage} }

// URL returns the URL of an HTTP server that a user has named. The error of another text
// wraps [ErrUsage], and has an example.
func URL(text, example string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, Usagef("%q is not a URL such as %s", text, example)
	}
	return u, nil
}

// Exit prints the error of a program that has a name, in one line, and exits: with 2 for a
// wrong command line, with 1 for another error. It does nothing if there is none, or if it is
// [flag.ErrHelp].
func Exit(name string, err error) {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", name, trail.Printable(strings.ReplaceAll(err.Error(), "\n", "; "))) // it may quote a file
	if errors.Is(err, ErrUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// Run runs the command that the arguments name. It prints the usage, and returns
// [flag.ErrHelp], if they ask for help. It returns an error if output is lost.
func (p Program) Run(ctx context.Context, args []string) error {
	out := &output{to: os.Stdout}
	err := p.run(ctx, out, args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		out.mu.Lock()
		defer out.mu.Unlock()
		if out.err != nil {
			return out.err
		}
	}
	return err
}

// output keeps the first error of a write.
type output struct {
	to  io.Writer
	mu  sync.Mutex
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.to.Write(b)
	if err != nil && !errors.Is(err, syscall.EPIPE) { // a reader that has left, as head does, wants no more
		o.mu.Lock()
		defer o.mu.Unlock()
		o.err = cmp.Or(o.err, err)
	}
	return n, err
}

func (p Program) run(ctx context.Context, out io.Writer, args []string) error {
	p.Commands = append(slices.Clone(p.Commands), Command{Name: "help", Help: "print this text", Setup: func(*flag.FlagSet) Run {
		return func(_ context.Context, out io.Writer, _ []string) error { p.usage(out); return nil }
	}})
	name := p.Default
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if name == "" {
		if len(args) > 0 && !slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
			return Usagef("want a command before %s (%s help lists them)", args[0], p.Call)
		}
		name, args = "help", nil
	}
	var names []string
	for _, c := range p.Commands {
		names = append(names, c.Name)
	}
	i := slices.Index(names, name)
	if i < 0 {
		return Usagef("unknown command %q (commands: %s)", name, strings.Join(names, ", "))
	}
	c := p.Commands[i]
	f := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // the caller prints the error
	do := c.Setup(f)
	rest, err := parse(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		p.usage(out)
		return err
	case err == nil && c.Args == "" && len(rest) > 0:
		err = fmt.Errorf("unexpected %q", rest[0])
	case err == nil:
		err = empty(f)
	}
	if err != nil {
		return Usagef("%s: %w (%s help lists the commands and flags)", c.Name, err, p.Call)
	}
	return do(ctx, out, rest)
}

// empty returns an error if a flag was set to an empty text. Mostly a variable of the shell
// has no value then, and the default would be another source or file than the user wants.
func empty(f *flag.FlagSet) (err error) {
	f.Visit(func(set *flag.Flag) {
		if text, ok := set.Value.(flag.Getter); ok && text.Get() == "" {
			err = fmt.Errorf("--%s is empty: give it a value, or leave it out", set.Name)
		}
	})
	return err
}

// negative matches flag's error about a negative number, which is an argument.
var negative = regexp.MustCompile(`not defined: (-\d+)$`)

// parse parses the flags, which may stand before, between and after the arguments, and
// returns the arguments.
func parse(f *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		err := f.Parse(args)
		args = f.Args()
		switch {
		case err != nil:
			// The package has removed the number from its arguments.
			number := negative.FindStringSubmatch(err.Error())
			if number == nil {
				return rest, err
			}
			rest = append(rest, number[1])
		case len(args) == 0:
			return rest, nil
		default:
			rest, args = append(rest, args[0]), args[1:]
		}
	}
}

// usage prints the commands and their flags.
func (p Program) usage(out io.Writer) {
	fmt.Fprintf(out, "%s\n\nusage: %s [COMMAND] [FLAGS] [ARGUMENTS]", p.About, p.Call)
	if p.Default != "" {
		fmt.Fprintf(out, "; the default command is %s", p.Default)
	}
	fmt.Fprint(out, "\n\n")
	for _, c := range p.Commands {
		line := fmt.Sprintf("  %-24s %s", strings.TrimSpace(c.Name+" "+c.Args), c.Help)
		fmt.Fprintln(out, trail.Wrap(line, 27))
		f := flag.NewFlagSet(c.Name, flag.ContinueOnError)
		c.Setup(f)
		f.VisitAll(func(f *flag.Flag) {
			kind, text := flag.UnquoteUsage(f)
			line := fmt.Sprintf("      %-20s %s", strings.TrimSpace("--"+f.Name+" "+kind), text)
			fmt.Fprintln(out, trail.Wrap(line, 27))
		})
	}
	fmt.Fprint(out, "\n", p.Notes)
}

// Colorful reports whether out is a terminal that should show colour
// (https://no-color.org).
func Colorful(out *os.File) bool { return Terminal(out) && os.Getenv("NO_COLOR") == "" }

// Terminal reports whether out is a terminal that understands escape sequences.
func Terminal(out *os.File) bool {
	info, err := out.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// Columns returns the width of a terminal, 0 if out is none.
func Columns(out *os.File) int {
	columns, _, err := term.GetSize(int(out.Fd()))
	if err != nil {
		return 0
	}
	return columns
}
