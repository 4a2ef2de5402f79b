"""The calls that a servicer must answer in the same way wherever it runs."""

from dataclasses import dataclass

import grpc

KINDS = ('Ask', 'Watch', 'Send', 'Talk')
STREAMS_REQUESTS = ('Send', 'Talk')

RAISED = 'the text of an exception stays in the log'
"""The one difference: natsgate tells the code, grpc.aio tells the caller the exception's text as well."""


@dataclass(frozen=True)
class Call:
    """Steps for the servicer; what else is sent; where it can be made."""

    name: str
    steps: tuple[str, ...]
    more: tuple[str, ...] = ()
    """Further messages, where the caller streams."""
    kinds: tuple[str, ...] = KINDS
    styles: tuple[str, ...] = ('Yielding', 'Writing', 'Mixed', 'Plain')
    differs: str = ''
    """Why the message of the status may differ."""
    races: bool = False
    """grpc.aio runs a plain generator ahead of what it has sent, and may lose its end: gRPC's other server does not."""
    untestable: str = ''
    """Why grpc_testing gives another answer, or none."""


ENDS = ('Yielding', 'Plain')
ASYNC = ('Yielding', 'Writing', 'Mixed')
KEEPS_NUMBER = 'it does not make codes of numbers'
DROPS_TRAILING = 'its abort() drops the trailing metadata'
NO_ABORT_WITH_METADATA = 'its abort() takes no metadata'
NO_COMPRESSION = 'its context cannot be asked to compress'
TELLS_TEXT = 'it tells the exception, with another text than grpc.aio'
TAKES_ANYTHING = 'it serializes nothing and checks nothing'

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

CALLS = (
    Call('nothing', ()),
    Call('a reply', ('say hello',)),
    Call('an empty reply', ('say',)),
    Call('many replies', tuple(f'say {number}' for number in range(50))),
    Call('what is not ASCII', ('say grüße ☺ 😈',)),
    Call('initial metadata', ('initial x-a=1 x-b-bin=00ff', 'say hello')),
    Call('initial metadata of one key', ('initial x-a=1 x-a=2 x-a=3', 'say hello')),
    Call('no initial metadata, sent', ('initial', 'say hello')),
    Call('initial metadata alone', ('initial x-a=1',), kinds=('Watch', 'Talk')),
    Call('trailing metadata', ('trailing x-a=1 x-b-bin=00ff', 'say hello')),
    Call('trailing metadata between', ('say one', 'trailing x-a=1', 'say two')),
    Call('trailing metadata twice', ('trailing x-a=1', 'trailing x-b=2', 'say hello')),
    Call('both', ('initial x-a=1', 'trailing x-b=2', 'say hello')),
    Call('abort', ('abort NOT_FOUND gone',)),
    Call('abort after a reply', ('say one', 'abort DATA_LOSS broken'), races=True),
    Call('abort without a text', ('abort ABORTED',)),
    Call('abort with whitespace', ('abort UNKNOWN \t\nwhite\r\nspace ☺ 😈\t\n',)),
    Call('abort by number', ('abort 5 gone',), untestable=KEEPS_NUMBER),
    Call('abort with initial metadata', ('initial x-a=1', 'abort NOT_FOUND gone')),
    Call('abort with set metadata', ('trailing x-a=1', 'abort NOT_FOUND gone'), untestable=DROPS_TRAILING),
    Call('abort with metadata', ('abort NOT_FOUND gone | x-a=1 x-b-bin=00ff',), untestable=NO_ABORT_WITH_METADATA),
    Call('abort with other metadata', ('trailing x-a=1', 'abort NOT_FOUND gone | x-b=2'), untestable=DROPS_TRAILING),
    Call('abort with set details', ('details set', 'abort NOT_FOUND'), untestable='it takes the empty text'),
    Call('abort over a set code', ('code ABORTED', 'details set', 'abort NOT_FOUND gone')),
    Call('abort and go on', ('swallow NOT_FOUND gone',)),
    Call('abort and another error', ('replace NOT_FOUND gone',), styles=ASYNC),
    Call(
        'abort and another status',
        ('swallow NOT_FOUND gone | x-a=1', 'code INTERNAL', 'details later', 'trailing x-b=2'),
        untestable=NO_ABORT_WITH_METADATA,
    ),
    Call('abort, taken back', ('swallow NOT_FOUND gone', 'code OK'), untestable='it takes what was said last'),
    Call('abort without a text at all', ('abort NOT_FOUND None',), untestable='it takes None for a text'),
    Call('abort without a code', ('abort None gone',), untestable=KEEPS_NUMBER),
    Call('no code', ('code None', 'say hello'), untestable=KEEPS_NUMBER),
    Call('abort twice', ('swallow NOT_FOUND gone', 'abort ABORTED again')),
    Call('a rich status', ('rich NOT_FOUND gone',), styles=ASYNC),
    Call('a rich status after a reply', ('say one', 'rich ABORTED no'), styles=ASYNC),
    Call('a code', ('code NOT_FOUND',)),
    Call('a code with details', ('code NOT_FOUND', 'details gone')),
    Call('a code with all', ('initial x-a=1', 'trailing x-b=2', 'code NOT_FOUND', 'details gone')),
    Call('a code after replies', ('say one', 'say two', 'code OUT_OF_RANGE', 'details done')),
    Call('a code that is none', ('code 99', 'details odd'), untestable=KEEPS_NUMBER),
    Call('OK, set', ('code OK', 'say hello')),
    Call('a code, taken back', ('code NOT_FOUND', 'code OK', 'say hello')),
    Call('details of OK', ('details unheard', 'say hello'), untestable='it tells what no client sees'),
    Call('an exception', ('raise secret',), differs=RAISED, untestable=TELLS_TEXT),
    Call('an exception after a reply', ('say one', 'raise secret'), differs=RAISED, untestable=TELLS_TEXT),
    Call('an exception with a code', ('code ABORTED', 'raise secret'), differs=RAISED, untestable=TELLS_TEXT),
    Call(
        'an exception with metadata',
        ('initial x-a=1', 'trailing x-b=2', 'raise secret'),
        differs=RAISED,
        untestable=TELLS_TEXT,
    ),
    Call('None', ('return None',), differs=RAISED, untestable=TAKES_ANYTHING),
    Call('what is no message', ('return text',), differs=RAISED, untestable=TAKES_ANYTHING),
    Call('metadata that are no pairs', ('trailing-dict x-a=1',), differs=RAISED, untestable=TAKES_ANYTHING),
    Call('initial metadata twice', ('initial x-a=1', 'initial x-b=2'), differs=RAISED, untestable=TELLS_TEXT),
    Call(
        'initial metadata after a reply',
        ('say one', 'initial x-b=2'),
        kinds=('Watch', 'Talk'),
        races=True,
        differs=RAISED,
        untestable=TELLS_TEXT,
    ),
    Call(
        'metadata that cannot be sent',
        ('trailing X-Upper=1', 'say hello'),
        kinds=('Ask', 'Send'),
        untestable=TAKES_ANYTHING,
    ),
    Call('initial metadata that cannot be sent', ('initial X-Upper=1', 'say hello'), untestable=TAKES_ANYTHING),
    Call('what the caller sent', ('tell metadata', 'tell keys'), untestable='its metadata are plain tuples'),
    Call('the time that is left', ('tell remaining',)),
    Call('who the caller is', ('tell identities',), untestable='its context does not know a peer'),
    Call(
        'what was set',
        (
            'tell code',
            'tell details',
            'tell trailing',
            'code ABORTED',
            'details no',
            'trailing x-a=1',
            'tell code',
            'tell details',
            'tell trailing',
            'code OK',
        ),
        styles=ASYNC,
    ),
    Call('whether it is over', ('tell done', 'code CANCELLED', 'tell done', 'code OK'), styles=ASYNC),
    Call('compression', ('compress Gzip', 'say one', 'plain', 'say two', 'say three'), untestable=NO_COMPRESSION),
    Call('an empty text in the metadata', ('initial x-a=', 'trailing x-b= x-c-bin=', 'say hello')),
    *(
        Call(f'code {code.name}', (f'code {code.name}', 'details told'), kinds=('Ask', 'Talk'), styles=ENDS)
        for code in CODES
    ),
    *(
        Call(f'code {number}', (f'code {number}',), kinds=('Ask',), styles=ENDS, untestable=KEEPS_NUMBER)
        for number in range(1, 16)
    ),
    Call('a number beyond the codes', ('abort 17 odd',), untestable=KEEPS_NUMBER),
    Call('a code beyond all after a reply', ('say one', 'code 255')),
    Call('text as trailing bytes', ('trailing x-text-bin=68656c6c6f', 'abort ABORTED no'), untestable=DROPS_TRAILING),
    Call('a long text', ('abort ABORTED ' + 'long ' * 300,)),
    Call('a code and a rich status', ('code ABORTED', 'trailing x-a=1', 'rich NOT_FOUND gone'), styles=ASYNC),
    Call(
        'initial metadata, then an exception', ('initial x-a=1', 'raise secret'), differs=RAISED, untestable=TELLS_TEXT
    ),
    Call('one message more', ('read', 'read'), ('one',), kinds=STREAMS_REQUESTS),
    Call('all messages', ('rest',), tuple(str(number) for number in range(50)), kinds=STREAMS_REQUESTS),
    Call('all and one more', ('rest', 'read', 'read'), ('one', 'two'), kinds=STREAMS_REQUESTS),
    Call(
        'one message of many',
        ('read', 'say enough', 'abort OUT_OF_RANGE enough'),
        ('one', 'two', 'three'),
        kinds=STREAMS_REQUESTS,
        races=True,
    ),
    Call('a reply before the messages are read', ('say first', 'rest'), ('one', 'two'), kinds=STREAMS_REQUESTS),
)


MADE = [(style, kind, call) for call in CALLS for style in call.styles for kind in call.kinds]
"""Each call, in each style and kind that it is for."""
