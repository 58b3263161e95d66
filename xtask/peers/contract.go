// Calls every method of the webapi v0 as a client in Go does: requests are marshaled structs in a form, answers are decoded into
// structs of which no field may be unknown, and errors are told by their code. Usage: contract BASE ADDRESS PASSWORD RECIPIENT SUBJECT
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"time"
)

type address struct{ Name, Address string }

type message struct {
	From, To, CC, BCC, ReplyTo []address
	MessageID                  string
	References                 []string
	Date                       *time.Time
	Subject, Text, HTML        string
}

type file struct{ Name, ContentType, ContentID, Data string }

type sending struct {
	message
	Extra                                        map[string]string
	Headers                                      [][2]string
	AlternativeFiles, InlineFiles, AttachedFiles []file
	RequireTLS                                   *bool
	FutureRelease                                *time.Time
	SaveSent                                     bool
}

type sent struct {
	MessageID   string
	Submissions []struct {
		Address    string
		QueueMsgID int64
		FromID     string
	}
}

type structure struct {
	ContentType                             string
	ContentTypeParams                       map[string]string
	ContentID, ContentDisposition, Filename string
	DecodedSize                             int64
	Parts                                   []structure
}

type shown struct {
	Message   message
	Structure structure
	Meta      struct {
		Size                int64
		DSN                 bool
		Flags               []string
		MailFrom            string
		MailFromValidated   bool
		RcptTo, MsgFrom     string
		MsgFromValidated    bool
		DKIMVerifiedDomains []string
		RemoteIP            string
		MailboxName         string
	}
}

type suppressions struct {
	Suppressions []struct {
		ID                                    int64
		Created                               time.Time
		Account, BaseAddress, OriginalAddress string
		Manual                                bool
		Reason                                string
	}
}

type present struct{ Present bool }

// problem is how the webapi says no.
type problem struct{ Code, Message string }

func (p problem) Error() string { return p.Code + ": " + p.Message }

var base, login, password string

// call gives the bytes of an answer, or the error that it tells.
func call(method string, request any) ([]byte, error) {
	text, err := json.Marshal(request)
	check(err)
	form := url.Values{"request": {string(text)}}.Encode()
	r, err := http.NewRequest("POST", base+method, bytes.NewBufferString(form))
	check(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(login, password)
	answer, err := http.DefaultClient.Do(r)
	check(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	check(err)
	switch answer.StatusCode {
	case 200:
		return body, nil
	case 400:
		var p problem
		strict(body, &p)
		return nil, p
	}
	return nil, fmt.Errorf("status %s", answer.Status)
}

// strict decodes all of a JSON text, and ends the program if there is anything unknown in it, or a nil list or map.
func strict(text []byte, into any) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		log.Fatalf("%s: %v", text, err)
	}
	present := map[string]any{}
	check(json.Unmarshal(text, &present))
	fields := reflect.TypeOf(into).Elem()
	for i := 0; i < fields.NumField(); i++ {
		if value, ok := present[fields.Field(i).Name]; !ok || value == nil {
			log.Fatalf("%s has no %s", text, fields.Field(i).Name)
		}
	}
}

func well[T any](method string, request any) (value T) {
	text, err := call(method, request)
	check(err)
	strict(text, &value)
	return value
}

func refused(code, method string, request any) {
	_, err := call(method, request)
	if p, ok := err.(problem); !ok || p.Code != code || p.Message == "" {
		log.Fatalf("%s: wanted the error %s, got %v", method, code, err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func must(true_ bool, what string, values ...any) {
	if !true_ {
		log.Fatal(what, values)
	}
}

func main() {
	must(len(os.Args) == 6, "usage: contract BASE ADDRESS PASSWORD RECIPIENT SUBJECT")
	base, login, password = os.Args[1], os.Args[2], os.Args[3]
	recipient, subject := os.Args[4], os.Args[5]
	data := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

	request := sending{
		message: message{
			From: []address{{"Grüße", login}}, To: []address{{"You", recipient}},
			Subject: subject, Text: "text ☺\n", HTML: `<img src="cid:a">`, References: []string{"<a@b.example>"},
		},
		Extra:         map[string]string{"key": "value"},
		Headers:       [][2]string{{"X-Contract", "1"}},
		InlineFiles:   []file{{"a.png", "image/png", "<a>", data("png")}},
		AttachedFiles: []file{{"a.txt", "", "", data("attached")}},
		SaveSent:      true,
	}
	done := well[sent]("Send", request)
	must(len(done.Submissions) == 1 && done.Submissions[0].Address == recipient, "submissions", done)

	// What was sent comes to the sender's own mailbox; so does the copy for Sent, before it.
	id := map[string]any{"MsgID": 0}
	var got shown
	for n, tries := 1, 0; got.Meta.MailboxName != "Inbox" || got.Message.MessageID != done.MessageID; {
		text, err := call("MessageGet", map[string]any{"MsgID": n})
		if p, ok := err.(problem); ok && p.Code == "messageNotFound" {
			// It is on its way.
			tries++
			must(tries < 600, "the message did not come")
			time.Sleep(100 * time.Millisecond)
			continue
		}
		check(err)
		got = shown{}
		strict(text, &got)
		id["MsgID"] = n
		n++
	}
	must(got.Message.Subject == subject && got.Message.Text == request.Text && got.Message.From[0] == request.From[0],
		"another message", got)
	must(got.Structure.ContentType == "multipart/mixed" && got.Structure.Parts[1].Filename == "a.txt", "parts", got)
	with := func(more map[string]any) map[string]any {
		more["MsgID"] = id["MsgID"]
		return more
	}
	raw, err := call("MessageRawGet", id)
	check(err)
	must(bytes.Contains(raw, []byte("\r\nX-Contract: 1\r\n")), "raw", string(raw))
	part, err := call("MessagePartGet", with(map[string]any{"PartPath": []int{1}}))
	check(err)
	must(string(part) == "attached", "part", string(part))
	refused("partNotFound", "MessagePartGet", with(map[string]any{"PartPath": []int{9}}))
	well[struct{}]("MessageFlagsAdd", with(map[string]any{"Flags": []string{`\Seen`, "$junk", "mine"}}))
	well[struct{}]("MessageFlagsRemove", with(map[string]any{"Flags": []string{"$junk"}}))
	well[struct{}]("MessageMove", with(map[string]any{"DestMailboxName": "Archive"}))
	got = well[shown]("MessageGet", id)
	must(reflect.DeepEqual(got.Meta.Flags, []string{"$notjunk", `\seen`, "mine"}) && got.Meta.MailboxName == "Archive", "meta", got.Meta)
	refused("user", "MessageMove", with(map[string]any{"DestMailboxName": "Nowhere"}))
	well[struct{}]("MessageDelete", id)
	refused("messageNotFound", "MessageGet", id)
	refused("user", "MessageDelete", id)

	of := func(text string) map[string]any { return map[string]any{"EmailAddress": text} }
	adding := of("No.Body+1@contract.example")
	adding["Manual"], adding["Reason"] = true, "asked"
	well[struct{}]("SuppressionAdd", adding)
	refused("error", "SuppressionAdd", adding)
	must(well[present]("SuppressionPresent", of("nobody@contract.example")).Present, "not present")
	list := well[suppressions]("SuppressionList", struct{}{}).Suppressions
	must(list[len(list)-1].BaseAddress == "nobody@contract.example" && list[len(list)-1].Manual, "list", list)
	well[struct{}]("SuppressionRemove", of("nobody-2@contract.example"))
	refused("error", "SuppressionRemove", of("nobody@contract.example"))
	refused("badAddress", "SuppressionPresent", of("nobody"))

	for code, change := range map[string]func(*sending){
		"missingBody":        func(r *sending) { r.Text, r.HTML = "", "" },
		"multipleFrom":       func(r *sending) { r.From = append(r.From, r.From...) },
		"badAddress":         func(r *sending) { r.To[0].Address = "x" },
		"noRecipients":       func(r *sending) { r.To = nil },
		"malformedMessageID": func(r *sending) { r.MessageID = "a@b.example" },
		"user":               func(r *sending) { r.Subject = "a\nb" },
		"protocol":           func(r *sending) { r.Text = string(make([]byte, 11<<20)) },
	} {
		wrong := request
		wrong.From, wrong.To = append([]address{}, request.From...), append([]address{}, request.To...)
		change(&wrong)
		refused(code, "Send", wrong)
	}
	password = "wrong"
	_, err = call("SuppressionList", struct{}{})
	must(err != nil && err.Error() == "status 401 Unauthorized", "a wrong password", err)
}
