; What XLA calls for a loop: work is cut into tasks, and the threads of XLA's own pool take them until none is left.
;
; The structures are those of xla/ffi/api/c_api.h, version 0. $OPERANDS, $RESULTS and $TASK are filled in, and @body follows:
; it computes elements `from` to `to` of one leaf.

%Version = type { i64, ptr, i32, i32 }                                ; size, extensions, major, minor
%Metadata = type { i64, %Version, i32, i64 }                          ; size, version, traits, state type
%Query = type { i64, i32, ptr, ptr }                                  ; size, type, next, metadata
%Api = type { i64, ptr, %Version, ptr, [11 x ptr], ptr, ptr }         ; ..., ThreadPool_Schedule, ThreadPool_NumThreads
%Buffer = type { i64, ptr, i32, ptr, i64, ptr }                       ; size, extensions, dtype, data, rank, dims
%Buffers = type { i64, ptr, i64, ptr, ptr }                           ; size, extensions, count, types, buffers
%Attributes = type { i64, ptr, i64, ptr, ptr, ptr }                   ; size, extensions, count, types, names, values
%Array = type { i32, i64, ptr }                                       ; dtype, size, data
%Frame = type { i64, ptr, ptr, ptr, i32, %Buffers, %Buffers, %Attributes, ptr } ; ..., api, context, stage, args, rets, attrs
%Schedule = type { i64, ptr, ptr, ptr, ptr }                          ; size, extensions, context, task, data
%NumThreads = type { i64, ptr, ptr, ptr }                             ; size, extensions, context, out
%Destroy = type { i64, ptr, ptr }                                     ; size, extensions, error

; The only attribute, int64: tasks, leaves, then for each leaf its start (its first element's number, were all leaves one
; after the other), then for each its size, then for each the numbers of its operands among all operands.
%Table = type { i64, i64, [0 x i64] }

; What threads share. It outlives the call, since a helper may wake up when all is done; the last to leave frees it.
; Whoever has taken a task keeps the caller waiting, and only they look at the frame.
%Shared = type { i64, i64, i64, i64, ptr }                            ; next task, tasks done, threads, tasks, frame

declare ptr @malloc(i64)
declare void @free(ptr)
declare i32 @sched_yield()
declare i64 @llvm.umax.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)

define internal ptr @data_of(ptr %buffers, i64 %number) alwaysinline {
  %at = getelementptr ptr, ptr %buffers, i64 %number
  %buffer = load ptr, ptr %at
  %field = getelementptr %Buffer, ptr %buffer, i64 0, i32 3
  %data = load ptr, ptr %field
  ret ptr %data
}

define internal ptr @table_of(ptr %frame) alwaysinline {
  %values.at = getelementptr %Frame, ptr %frame, i64 0, i32 7, i32 5
  %values = load ptr, ptr %values.at
  %array = load ptr, ptr %values
  %data = getelementptr %Array, ptr %array, i64 0, i32 2
  %table = load ptr, ptr %data
  ret ptr %table
}

; Elements number * $TASK to (number + 1) * $TASK, which may be a part of a leaf or many leaves.
define internal void @task(ptr %frame, i64 %number) {
entry:
  %args.at = getelementptr %Frame, ptr %frame, i64 0, i32 5, i32 4
  %args = load ptr, ptr %args.at
  %rets.at = getelementptr %Frame, ptr %frame, i64 0, i32 6, i32 4
  %rets = load ptr, ptr %rets.at
  %table = call ptr @table_of(ptr %frame)
  %leaves.at = getelementptr %Table, ptr %table, i64 0, i32 1
  %leaves = load i64, ptr %leaves.at
  %starts = getelementptr %Table, ptr %table, i64 0, i32 2
  %sizes = getelementptr i64, ptr %starts, i64 %leaves
  %rows = getelementptr i64, ptr %sizes, i64 %leaves
  %low = mul i64 %number, $TASK
  %high = add i64 %low, $TASK
  br label %search
search: ; the last leaf that starts at or before `low` lies in [first, first + count)
  %first = phi i64 [ 0, %entry ], [ %first.next, %halve ]
  %count = phi i64 [ %leaves, %entry ], [ %count.next, %halve ]
  %found = icmp ule i64 %count, 1
  br i1 %found, label %leaf, label %halve
halve:
  %half = lshr i64 %count, 1
  %middle = add i64 %first, %half
  %middle.at = getelementptr i64, ptr %starts, i64 %middle
  %middle.start = load i64, ptr %middle.at
  %right = icmp ule i64 %middle.start, %low
  %rest = sub i64 %count, %half
  %first.next = select i1 %right, i64 %middle, i64 %first
  %count.next = select i1 %right, i64 %rest, i64 %half
  br label %search
leaf:
  %l = phi i64 [ %first, %search ], [ %l.next, %next ]
  %more = icmp ult i64 %l, %leaves
  br i1 %more, label %range, label %exit
range:
  %start.at = getelementptr i64, ptr %starts, i64 %l
  %start = load i64, ptr %start.at
  %inside = icmp ult i64 %start, %high
  br i1 %inside, label %clip, label %exit
clip:
  %size.at = getelementptr i64, ptr %sizes, i64 %l
  %size = load i64, ptr %size.at
  %begin = call i64 @llvm.umax.i64(i64 %low, i64 %start)
  %from = sub i64 %begin, %start
  %until = sub i64 %high, %start
  %to = call i64 @llvm.umin.i64(i64 %until, i64 %size)
  %any = icmp ult i64 %from, %to
  br i1 %any, label %compute, label %next
compute:
  %row.number = mul i64 %l, $OPERANDS
  %row = getelementptr i64, ptr %rows, i64 %row.number
  %result.number = mul i64 %l, $RESULTS
  %results = getelementptr ptr, ptr %rets, i64 %result.number
  call void @body(ptr %args, ptr %results, ptr %row, i64 %from, i64 %to)
  br label %next
next:
  %l.next = add i64 %l, 1
  br label %leaf
exit:
  ret void
}

define internal void @take_tasks(ptr %shared) {
entry:
  %done.at = getelementptr %Shared, ptr %shared, i64 0, i32 1
  %tasks.at = getelementptr %Shared, ptr %shared, i64 0, i32 3
  %tasks = load i64, ptr %tasks.at
  %frame.at = getelementptr %Shared, ptr %shared, i64 0, i32 4
  %frame = load ptr, ptr %frame.at
  br label %take
take:
  %number = atomicrmw add ptr %shared, i64 1 monotonic
  %mine = icmp ult i64 %number, %tasks
  br i1 %mine, label %do, label %exit
do:
  call void @task(ptr %frame, i64 %number)
  %before = atomicrmw add ptr %done.at, i64 1 release
  br label %take
exit:
  ret void
}

define internal void @leave(ptr %shared) {
  %threads.at = getelementptr %Shared, ptr %shared, i64 0, i32 2
  %threads = atomicrmw sub ptr %threads.at, i64 1 acq_rel
  %last = icmp eq i64 %threads, 1
  br i1 %last, label %release, label %exit
release:
  call void @free(ptr %shared)
  br label %exit
exit:
  ret void
}

define internal void @help(ptr %shared) {
  call void @take_tasks(ptr %shared)
  call void @leave(ptr %shared)
  ret void
}

define internal void @discard(ptr %api, ptr %error) {
  %destroy.at = getelementptr %Api, ptr %api, i64 0, i32 4, i64 2
  %destroy = load ptr, ptr %destroy.at
  %args = alloca %Destroy
  store %Destroy { i64 24, ptr null, ptr null }, ptr %args
  %error.at = getelementptr %Destroy, ptr %args, i64 0, i32 2
  store ptr %error, ptr %error.at
  call void %destroy(ptr %args)
  ret void
}

; The number of threads in XLA's pool, 1 if there is none.
define internal i64 @pool_size(ptr %api, ptr %context) {
  %number = alloca i64
  store i64 1, ptr %number
  %args = alloca %NumThreads
  store %NumThreads { i64 32, ptr null, ptr null, ptr null }, ptr %args
  %context.at = getelementptr %NumThreads, ptr %args, i64 0, i32 2
  store ptr %context, ptr %context.at
  %number.at = getelementptr %NumThreads, ptr %args, i64 0, i32 3
  store ptr %number, ptr %number.at
  %function.at = getelementptr %Api, ptr %api, i64 0, i32 6
  %function = load ptr, ptr %function.at
  %error = call ptr %function(ptr %args)
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %alone, label %exit
alone:
  call void @discard(ptr %api, ptr %error)
  ret i64 1
exit:
  %threads = load i64, ptr %number
  ret i64 %threads
}

define internal void @call_helper(ptr %api, ptr %context, ptr %shared) {
  %threads.at = getelementptr %Shared, ptr %shared, i64 0, i32 2
  %before = atomicrmw add ptr %threads.at, i64 1 monotonic
  %args = alloca %Schedule
  store %Schedule { i64 40, ptr null, ptr null, ptr @help, ptr null }, ptr %args
  %context.at = getelementptr %Schedule, ptr %args, i64 0, i32 2
  store ptr %context, ptr %context.at
  %shared.at = getelementptr %Schedule, ptr %args, i64 0, i32 4
  store ptr %shared, ptr %shared.at
  %function.at = getelementptr %Api, ptr %api, i64 0, i32 5
  %function = load ptr, ptr %function.at
  %error = call ptr %function(ptr %args)
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %alone, label %exit
alone:
  call void @discard(ptr %api, ptr %error)
  call void @leave(ptr %shared)
  br label %exit
exit:
  ret void
}

define ptr @handler(ptr %frame) {
entry:
  %query.at = getelementptr %Frame, ptr %frame, i64 0, i32 1
  %query = load ptr, ptr %query.at
  %asked = icmp ne ptr %query, null
  br i1 %asked, label %extension, label %execute
extension:
  %type.at = getelementptr %Query, ptr %query, i64 0, i32 1
  %type = load i32, ptr %type.at
  %is.metadata = icmp eq i32 %type, 1
  br i1 %is.metadata, label %answer, label %execute
answer:
  %metadata.at = getelementptr %Query, ptr %query, i64 0, i32 3
  %metadata = load ptr, ptr %metadata.at
  %major.at = getelementptr %Metadata, ptr %metadata, i64 0, i32 1, i32 2
  store i32 0, ptr %major.at
  %minor.at = getelementptr %Metadata, ptr %metadata, i64 0, i32 1, i32 3
  store i32 $MINOR, ptr %minor.at
  ret ptr null
execute:
  %api.at = getelementptr %Frame, ptr %frame, i64 0, i32 2
  %api = load ptr, ptr %api.at
  %context.at = getelementptr %Frame, ptr %frame, i64 0, i32 3
  %context = load ptr, ptr %context.at
  %table = call ptr @table_of(ptr %frame)
  %tasks = load i64, ptr %table
  %pool = call i64 @pool_size(ptr %api, ptr %context)
  %threads = call i64 @llvm.umin.i64(i64 %pool, i64 %tasks)
  %shared = call ptr @malloc(i64 40)
  store %Shared { i64 0, i64 0, i64 1, i64 0, ptr null }, ptr %shared
  %tasks.at = getelementptr %Shared, ptr %shared, i64 0, i32 3
  store i64 %tasks, ptr %tasks.at
  %frame.at = getelementptr %Shared, ptr %shared, i64 0, i32 4
  store ptr %frame, ptr %frame.at
  br label %calling
calling:
  %called = phi i64 [ 1, %execute ], [ %called.next, %another ]
  %enough = icmp uge i64 %called, %threads
  br i1 %enough, label %work, label %another
another:
  call void @call_helper(ptr %api, ptr %context, ptr %shared)
  %called.next = add i64 %called, 1
  br label %calling
work:
  call void @take_tasks(ptr %shared)
  %done.at = getelementptr %Shared, ptr %shared, i64 0, i32 1
  br label %wait
wait:
  %done = load atomic i64, ptr %done.at acquire, align 8
  %all = icmp uge i64 %done, %tasks
  br i1 %all, label %exit, label %yield
yield:
  %yielded = call i32 @sched_yield()
  br label %wait
exit:
  call void @leave(ptr %shared)
  ret ptr null
}
