import com.google.protobuf.Any;
import com.google.rpc.ResourceInfo;
import demo.v1.WordsGrpc;
import demo.v1.WordsGrpc.WordsBlockingV2Stub;
import demo.v1.WordsOuterClass.CountRequest;
import demo.v1.WordsOuterClass.LookupRequest;
import demo.v1.WordsOuterClass.SplitRequest;
import demo.v1.WordsOuterClass.Word;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;

/** The four kinds of call, against demo.v1.Words. */
public final class Client {
  private static final String TEXT = "to be or not to be";
  private static final Duration TIMEOUT = Duration.ofSeconds(10);

  private interface Call {
    String with(WordsBlockingV2Stub words) throws Exception;
  }

  public static void main(String[] arguments) {
    var address = arguments.length > 0 ? arguments[0] : "127.0.0.1:50051";
    var channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    var calls = new LinkedHashMap<String, Call>();
    calls.put("Count", Client::count);
    calls.put("Lookup", Client::lookup);
    calls.put("Split", Client::split);
    calls.put("Join", Client::join);
    calls.put("Echo", Client::echo);
    calls.forEach((name, call) -> {
      try {
        var words = WordsGrpc.newBlockingV2Stub(channel).withDeadlineAfter(TIMEOUT);
        System.out.println(name + ": " + call.with(words));
      } catch (Exception failure) {
        System.err.println(name + " failed: " + failure.getMessage());
        System.exit(1);
      }
    });
    channel.shutdownNow();
  }

  /** One message there, one back. */
  private static String count(WordsBlockingV2Stub words) throws StatusException {
    var response = words.count(CountRequest.newBuilder().setText(TEXT).build());
    return String.valueOf(response.getWords());
  }

  /** A failure: its code, its message, and what details it has. */
  private static String lookup(WordsBlockingV2Stub words) throws Exception {
    try {
      words.lookup(LookupRequest.newBuilder().setWord("xylophone").build());
    } catch (StatusException failure) {
      if (failure.getStatus().getCode() != Status.Code.NOT_FOUND) {
        throw failure;
      }
      for (Any detail : StatusProto.fromThrowable(failure).getDetailsList()) {
        if (detail.is(ResourceInfo.class)) {
          var info = detail.unpack(ResourceInfo.class);
          System.err.println("ResourceInfo: " + info.getResourceType() + " " + info.getResourceName());
        }
      }
      return failure.getStatus().getCode() + " " + failure.getStatus().getDescription();
    }
    throw new IllegalStateException("the word is known");
  }

  /** One message there, many back. */
  private static String split(WordsBlockingV2Stub words) throws Exception {
    var call = words.split(SplitRequest.newBuilder().setText(TEXT).build());
    var found = new ArrayList<String>();
    while (call.hasNext()) {
      found.add(call.read().getWord());
    }
    return String.join(" ", found);
  }

  /** Many messages there, one back. */
  private static String join(WordsBlockingV2Stub words) throws Exception {
    var call = words.join();
    for (String word : TEXT.split(" ")) {
      call.write(word(word));
    }
    call.halfClose();
    return call.read().getText();
  }

  /** Many there, many back: each word is sent when the one before it has come back. */
  private static String echo(WordsBlockingV2Stub words) throws Exception {
    var call = words.echo();
    var back = new ArrayList<String>();
    for (String word : TEXT.split(" ")) {
      call.write(word(word));
      back.add(call.read().getWord());
    }
    call.halfClose();
    if (call.hasNext()) {
      throw new IllegalStateException("more came back than was sent");
    }
    return String.join(" ", back);
  }

  private static Word word(String word) {
    return Word.newBuilder().setWord(word).build();
  }
}
