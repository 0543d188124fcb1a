// Package cli runs the commands of a program, and prints their usage.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

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
	Setup func(*flag.FlagSet) func(ctx context.Context, args []string) error
}

// ErrUsage is wrapped by the error of a wrong command line.
var ErrUsage = errors.New("usage")

// Usagef returns an error that wraps [ErrUsage]. Its text does not mention that.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

type usageError struct{ error }

func (e usageError) Unwrap() []error { return []error{e.error, ErrUsage} }

// Run runs the command that the arguments name. It prints the usage, and returns
// [flag.ErrHelp], if they ask for help.
func (p Program) Run(ctx context.Context, args []string) error {
	p.Commands = append(slices.Clone(p.Commands), Command{Name: "help", Help: "print this text", Setup: func(*flag.FlagSet) func(context.Context, []string) error {
		return func(context.Context, []string) error { p.usage(os.Stdout); return nil }
	}})
	name := p.Default
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if name == "" {
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
		p.usage(os.Stdout)
		return err
	case err == nil && c.Args == "" && len(rest) > 0:
		err = fmt.Errorf("unexpected %q", rest[0])
	}
	if err != nil {
		return Usagef("%s: %w (%s help lists the commands and flags)", c.Name, err, p.Call)
	}
	return do(ctx, rest)
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
