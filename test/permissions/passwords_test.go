package permissions_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
)

// No client connects without the right password, and every user has one.
func TestPasswords(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	for _, opt := range []nats.Option{
		nats.Name("no user"), nats.UserInfo(payments.Name, "demo-orders"), nats.UserInfo(payments.Name, ""), nats.UserInfo("unknown", "demo"),
	} {
		if nc, err := nats.Connect(s.url, opt); err == nil {
			nc.Close()
			t.Error("a client without the right password connects")
		}
	}
	names := map[string]string{}
	for _, u := range s.options.Users {
		if other, twice := names[u.Password]; twice {
			t.Errorf("%s and %s have one password", other, u.Username)
		}
		if u.Permissions == nil || u.Permissions.Response != nil {
			t.Errorf("%s may do more than its permissions say", u.Username)
		}
		names[u.Password] = u.Username
	}
	if got := slices.Sorted(maps.Values(names)); !slices.Equal(got, slices.Sorted(slices.Values(users))) {
		t.Errorf("users %v, want %v", got, users)
	}
	if s.options.NoAuthUser != "" || s.options.Username != "" || s.options.Authorization != "" {
		t.Error("there are other ways in")
	}
}

// The demo's passwords are replaced by another file, in plain text or as bcrypt
// hashes, or by the environment.
func TestPasswordsAreReplaced(t *testing.T) {
	dir := t.TempDir()
	config, err := os.ReadFile("../../nats/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	demo, err := os.ReadFile("../../nats/passwords.conf")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("nats.conf", string(config))
	const hash = "$2a$04$BIm0Io4wTMtCcZClD8sXn.8GDFHTu9mcFuykPRObGw.tRYVbKkPzm"
	write("passwords.conf", strings.NewReplacer("demo-payments", `"`+hash+`"`, "demo-orders", "mine").Replace(string(demo)))
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{payments.Name: hash, orders.Name: "mine", notify.Name: "demo-notify"}
	check := func() {
		t.Helper()
		for _, u := range o.Users {
			if w, ok := want[u.Username]; ok && u.Password != w {
				t.Errorf("password of %s: %q, want %q", u.Username, u.Password, w)
			}
		}
	}
	check()

	write("passwords.conf", "# all of them come from the environment\n")
	if _, err := server.ProcessConfigFile(path); err == nil {
		t.Error("a server without passwords starts")
	}
	for _, user := range users {
		t.Setenv("NATS_PASSWORD_"+strings.ToUpper(user), "from-environment-"+user)
		want[user] = "from-environment-" + user
	}
	if o, err = server.ProcessConfigFile(path); err != nil {
		t.Fatal(err)
	}
	check()
}
