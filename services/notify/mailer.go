package notify

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/url"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/stream"
)

// Mailer sends mail.
type Mailer interface {
	// Send returns nil once the mail is accepted for delivery. An error leaves open
	// whether it was; one that stream.Permanent marks is final.
	Send(ctx context.Context, m outbox.Mail) error
	// Channel names the way, for spans and events: "smtp" or "outbox".
	Channel() string
}

// from is the sender of every mail; example domains are reserved (RFC 2606).
const from = "shop@ordertrail.example"

// smtpTimeout bounds each step of sending a mail: connecting, the greeting, the
// login, the mail. All four together end before the event that asks for the mail
// is delivered again.
const smtpTimeout = 2 * time.Second

// SMTP sends mail through a server, one connection per mail.
type SMTP struct{ client *mail.Client }

// NewSMTP reads an SMTP URL: smtp://[user:password@]host[:port] uses TLS if the
// server offers it (port 25), smtps:// uses TLS from the start (port 465).
func NewSMTP(u *url.URL) (*SMTP, error) {
	opts := []mail.Option{mail.WithTimeout(smtpTimeout), mail.WithTLSPolicy(mail.TLSOpportunistic)}
	port := mail.DefaultPort
	if u.Scheme == "smtps" {
		opts, port = append(opts, mail.WithSSL()), mail.DefaultPortSSL
	}
	if p := u.Port(); p != "" {
		var err error
		if port, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("setting SMTP_URL: port %q", p)
		}
	}
	opts = append(opts, mail.WithPort(port))
	if u.User != nil {
		password, _ := u.User.Password()
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	client, err := mail.NewClient(u.Hostname(), opts...)
	if err != nil {
		return nil, fmt.Errorf("setting SMTP_URL: %w", err)
	}
	return &SMTP{client}, nil
}

// Send delivers the mail to the server. Its refusal of the mail (an answer in the
// 5xx range) is final; that of the connection or the login is not.
func (s *SMTP) Send(ctx context.Context, m outbox.Mail) error {
	msg := mail.NewMsg()
	to, err := netmail.ParseAddress(m.To.Email)
	if err == nil {
		to.Name = m.To.Name
		// Not AddToFormat, which does not take a name with quotes in it.
		err = errors.Join(msg.From(from), msg.AddTo(to.String()))
	}
	if err != nil {
		// Not the error itself: it quotes the address.
		return stream.Permanent(errors.New("the customer's mail address is not one"))
	}
	msg.Subject(m.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(m.ID)
	msg.SetBodyString(mail.TypeTextPlain, m.Body())
	ctx, cancel := context.WithTimeout(ctx, smtpTimeout)
	defer cancel()
	err = s.client.DialAndSendWithContext(ctx, msg)
	var refused *mail.SendError
	switch {
	case err == nil, msg.IsDelivered(): // accepted: how the connection ended is not the mail's matter
		return nil
	case errors.As(err, &refused) && refused.ErrorCode() >= 500:
		return stream.Permanent(fmt.Errorf("mail server refuses the mail: %d %s", refused.ErrorCode(), refused.EnhancedStatusCode()))
	case errors.As(err, &refused):
		return fmt.Errorf("mail server does not take the mail now: %d %s", refused.ErrorCode(), refused.EnhancedStatusCode())
	}
	return fmt.Errorf("mail server: %w", err)
}

// Channel is "smtp".
func (s *SMTP) Channel() string { return "smtp" }
