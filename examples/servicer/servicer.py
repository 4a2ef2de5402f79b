"""The library, as it was written for grpc.aio. Nothing here knows of NATS."""

import grpc
import library_pb2
import library_pb2_grpc

BOOKS = {
    'Emma': 'Jane Austen',
    'Persuasion': 'Jane Austen',
    'Middlemarch': 'George Eliot',
}


class Library(library_pb2_grpc.LibraryServicer):
    async def Find(self, request, context):
        return await self._book(request.title, context)

    def List(self, request, context):  # a plain method: it runs in a thread
        for title, author in BOOKS.items():
            if author == request.author:
                yield library_pb2.Book(title=title, author=author)

    async def Return(self, request_iterator, context):
        books = [book async for book in request_iterator]
        context.set_trailing_metadata((('fine', '0'),))
        return library_pb2.ReturnResponse(books=len(books))

    async def Browse(self, request_iterator, context):
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(await self._book(request.title, context))

    async def _book(self, title, context):
        if title not in BOOKS:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'no book is called {title!r}')
        return library_pb2.Book(title=title, author=BOOKS[title])
