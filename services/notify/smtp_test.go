package notify_test

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/test/smtptest"
)

func MustSMTP(tb testing.TB, u *url.URL) *notify.SMTP {
	tb.Helper()
	s, err := notify.NewSMTP(u)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func letter() outbox.Mail {
	return outbox.Mail{
		ID: "notify.received.1@ordertrail.example", To: event.Customer{Name: "Robin Example", Email: "robin@example.com"},
		Subject: "We have received your order", Text: "thank you. 10,00 €\n.\nBye\n",
	}
}

// text is a mail's body as its reader sees it.
func text(tb testing.TB, m smtptest.Mail) string {
	tb.Helper()
	if got, want := strings.ToLower(m.Header.Get("Content-Transfer-Encoding")), "quoted-printable"; got != want {
		tb.Errorf("Content-Transfer-Encoding = %q, want %q", got, want)
	}
	b, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(m.Body)))
	if err != nil {
		tb.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func TestSend(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	smtp := MustSMTP(t, server.URL())
	if got, want := smtp.Channel(), "smtp"; got != want {
		t.Errorf("channel = %q, want %q", got, want)
	}
	if err := smtp.Send(context.Background(), letter()); err != nil {
		t.Fatal(err)
	}
	mails := server.Mails()
	if len(mails) != 1 {
		t.Fatalf("%d mails came in, want 1", len(mails))
	}
	m := mails[0]
	if !strings.HasPrefix(m.From, "MAIL FROM:<shop@ordertrail.example>") || m.To != "RCPT TO:<robin@example.com>" {
		t.Errorf("envelope = %q, %q, want from the shop to the customer", m.From, m.To)
	}
	for name, want := range map[string]string{
		"From": "<shop@ordertrail.example>", "To": `"Robin Example" <robin@example.com>`,
		"Subject": "We have received your order", "Message-Id": "<notify.received.1@ordertrail.example>",
	} {
		if got := m.Header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if at, err := m.Header.Date(); err != nil || time.Since(at) > time.Minute {
		t.Errorf("Date = %q (%v), want now", m.Header.Get("Date"), err)
	}
	if got, want := text(t, m), letter().Body(); strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") {
		t.Errorf("text = %q, want %q", got, want)
	}
}

// A server's refusal is final; after any other failure the mail is tried again.
func TestSendAnswers(t *testing.T) {
	t.Parallel()
	at := func(prefix, answer string) func(string) string {
		return func(command string) string {
			if command == prefix || prefix != "" && strings.HasPrefix(command, prefix) {
				return answer
			}
			return ""
		}
	}
	for _, tc := range []struct {
		name      string
		script    func(string) string
		ok, final bool
	}{
		{"MailTemporarily", at("MAIL", "451 4.3.0 later"), false, false},
		{"MailRefused", at("MAIL", "550 5.7.1 no"), false, true},
		{"RcptTemporarily", at("RCPT", "450 4.2.0 greylisted"), false, false},
		{"RcptRefused", at("RCPT", "550 5.1.1 no such mailbox"), false, true},
		{"DataTemporarily", at("DATA", "421 4.3.2 shutting down"), false, false},
		{"DataRefused", at("DATA", "554 5.5.1 no"), false, true},
		{"EndTemporarily", at(".", "452 4.2.2 full"), false, false},
		{"EndRefused", at(".", "552 5.3.4 too large"), false, true},
		{"GreetingTemporarily", at("", "421 4.3.2 busy"), false, false},
		// Not about this mail: the next try may find the server in order.
		{"GreetingRefused", at("", "554 5.3.2 not today"), false, false},
		{"DropsGreeting", at("", "drop"), false, false},
		{"DropsMail", at("MAIL", "drop"), false, false},
		{"DropsEnd", at(".", "drop"), false, false}, // it may be taken or not
		{"NotSMTP", at("", "HTTP/1.1 400 Bad Request"), false, false},
		// The mail is taken by then.
		{"ResetRefused", at("RSET", "502 5.5.1 unknown command"), true, false},
		{"ResetDropped", at("RSET", "drop"), true, false},
		{"QuitRefused", at("QUIT", "500 5.5.1 no"), true, false},
		{"QuitDropped", at("QUIT", "drop"), true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := smtptest.Start(t)
			server.Script(tc.script)
			err := MustSMTP(t, server.URL()).Send(context.Background(), letter())
			if (err == nil) != tc.ok {
				t.Fatalf("Send = %v, want success: %t", err, tc.ok)
			}
			if got := isPermanent(err); got != tc.final {
				t.Errorf("Send = %v, final: %t, want %t", err, got, tc.final)
			}
			if got, want := len(server.Mails()), map[bool]int{true: 1}[tc.ok]; got != want {
				t.Errorf("%d mails came in, want %d", got, want)
			}
			if err != nil && (strings.Contains(err.Error(), "robin") || strings.Contains(err.Error(), "Robin")) {
				t.Errorf("the error names the customer: %v", err)
			}
		})
	}
}

// isPermanent reports whether stream.Permanent marked the error.
func isPermanent(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err) == reflect.TypeOf(stream.Permanent(io.EOF)) {
			return true
		}
	}
	return false
}

// A server that cannot be reached, or with which TLS fails, may be in order later.
func TestSendWithoutConnection(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	noTLS := server.URL()
	noTLS.Scheme = "smtps"
	if err := MustSMTP(t, noTLS).Send(context.Background(), letter()); err == nil || isPermanent(err) {
		t.Errorf("Send without a TLS handshake = %v, want an error that is not final", err)
	}
	server.Script(func(command string) string {
		switch verb, _, _ := strings.Cut(command, " "); verb {
		case "EHLO":
			return "250-mail.example\r\n250 STARTTLS"
		case "STARTTLS":
			return "454 4.7.0 TLS not available"
		}
		return ""
	})
	if err := MustSMTP(t, server.URL()).Send(context.Background(), letter()); err == nil || isPermanent(err) {
		t.Errorf("Send after STARTTLS was refused = %v, want an error that is not final", err)
	}
	server.Stop()
	if err := MustSMTP(t, server.URL()).Send(context.Background(), letter()); err == nil || isPermanent(err) {
		t.Errorf("Send to no server = %v, want an error that is not final", err)
	}
}

func TestSendToNobody(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	for _, email := range []string{"", "robin", "robin@example.com\r\nRCPT TO:<eve@example.com>", "robin@example.com>\r\nDATA", "a@b, c@d"} {
		m := letter()
		m.To.Email = email
		err := MustSMTP(t, server.URL()).Send(context.Background(), m)
		if !isPermanent(err) {
			t.Errorf("Send to %q = %v, want a final error", email, err)
		}
		if err != nil && email != "" && strings.Contains(err.Error(), email) {
			t.Errorf("the error names the address: %v", err)
		}
	}
	if got := server.Count(""); got != 0 {
		t.Errorf("%d commands came in, want none", got)
	}
}

func TestSendTimesOut(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	hang := make(chan struct{})
	server.Script(func(command string) string {
		if command == "DATA" {
			<-hang
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := MustSMTP(t, server.URL()).Send(ctx, letter())
	close(hang)
	if err == nil || isPermanent(err) {
		t.Errorf("Send = %v, want an error that is not final", err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Send took %v after its context had ended", took)
	}
}

// A customer's name changes no header but To, and neither the envelope nor the text.
func TestHeaderInjection(t *testing.T) {
	t.Parallel()
	for name, customer := range map[string]string{
		"LineBreak":   "Robin\r\nBcc: eve@example.com",
		"LineFeed":    "Robin\nBcc: eve@example.com",
		"Return":      "Robin\rBcc: eve@example.com",
		"EndOfHeader": "Robin\r\n\r\nBuy now",
		"EndOfMail":   "Robin\r\n.\r\nMAIL FROM:<eve@example.com>",
		"Quote":       `Robin" <eve@example.com>, "`,
		"Brackets":    "Robin <eve@example.com>",
		"Comma":       "eve@example.com, Robin",
		"Encoded":     "=?utf-8?q?Robin=0D=0ABcc:_eve@example.com?=",
		"NUL":         "Rob\x00in",
		"NotUTF8":     "Rob\xffin",
		"Script":      "Þórunn 李 🥾",
		"Long":        strings.Repeat("Robin ", 200),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := smtptest.Start(t)
			m := letter()
			m.To.Name, m.Text = customer, "Bye\n"
			if err := MustSMTP(t, server.URL()).Send(context.Background(), m); err != nil {
				t.Fatal(err)
			}
			if got := server.Count("RCPT"); got != 1 {
				t.Errorf("the mail went to %d addresses, want 1", got)
			}
			mails := server.Mails()
			if len(mails) != 1 {
				t.Fatalf("%d mails came in, want 1", len(mails))
			}
			for _, forbidden := range []string{"Bcc", "Cc"} {
				if got := mails[0].Header.Get(forbidden); got != "" {
					t.Errorf("%s = %q, want none", forbidden, got)
				}
			}
			to, err := mails[0].Header.AddressList("To")
			if err != nil || len(to) != 1 || to[0].Address != "robin@example.com" {
				t.Errorf("To = %q (%v), want robin@example.com alone", mails[0].Header.Get("To"), err)
			} else if got, want := to[0].Name, customer; got != want && name != "Encoded" {
				t.Errorf("To names %q, want %q", got, want)
			}
			if subject, err := new(mime.WordDecoder).DecodeHeader(mails[0].Header.Get("Subject")); err != nil || subject != m.Subject {
				t.Errorf("Subject = %q (%v), want %q", subject, err, m.Subject)
			}
			if got := text(t, mails[0]); !strings.HasSuffix(strings.TrimSpace(got), "Bye") {
				t.Errorf("text = %q, want it whole", got)
			}
		})
	}
}

func TestNewSMTP(t *testing.T) {
	for raw, ok := range map[string]bool{
		"smtp://localhost": true, "smtp://localhost:1025": true, "smtps://user:secret@mail.example": true,
		"smtp://[::1]:1025": true, "smtp://localhost:70000": false, "smtp://": false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = notify.NewSMTP(u)
		if (err == nil) != ok {
			t.Errorf("NewSMTP(%s) = %v, want success: %t", raw, err, ok)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
}
